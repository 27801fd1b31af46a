# shellcheck shell=bash
# What each venv has installed. The interpreter's own list is several times faster than `pip freeze`.
count="${VENV_BACKUP_COUNT:-48}"
backups="$WORKSPACE/.shell-venv-backups/$instance"
if [[ $count -gt 0 ]]; then
    for venv in /venv/*/; do
        if [[ ! -x ${venv}bin/python ]]; then continue; fi
        name="$(basename "$venv")"
        mkdir -p "$backups"
        file="venv-$name-$(date -u +%Y%m%d-%H%M%S).txt"
        "${venv}bin/python" -I -c '
from importlib.metadata import distributions
print("\n".join(sorted({f"{d.name}=={d.version}" for d in distributions()})))' >"$backups/$file"
        ln -sfn "$file" "$backups/venv-$name-latest.txt"
        find "$backups" -name "venv-$name-[0-9]*.txt" | sort -r | tail -n "+$((count + 1))" | xargs -r rm
    done
fi
