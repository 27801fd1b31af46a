# shellcheck shell=bash
# The workspace, the portal's entries for Jupyter, and /etc/environment.
mkdir -p "$WORKSPACE"
cd "$WORKSPACE" || true
export DATA_DIRECTORY="${DATA_DIRECTORY:-$WORKSPACE}" HF_HOME="${HF_HOME:-$WORKSPACE/.hf_home}"
for link in /opt/sys-venv/shim/python* /opt/sys-venv/shim/pip*; do
    if [[ -L $link ]]; then rm "$link"; fi
done

IFS='|' read -ra entries <<<"$PORTAL_CONFIG"
kept=()
has_jupyter=false
for entry in "${entries[@]}"; do
    if [[ ${entry,,} == *jupyter* ]]; then
        if [[ -z ${VAST_TCP_PORT_8080-} ]]; then continue; fi
        has_jupyter=true
    fi
    kept+=("$entry")
done
if [[ $has_jupyter == false && -n ${VAST_TCP_PORT_8080-} && ${FORCE_JUPYTER,,} != false && ! -e /.launch ]]; then
    kept+=("localhost:8080:18080:/:Jupyter" "localhost:8080:8080:/terminals/1:Jupyter Terminal")
fi
PORTAL_CONFIG="$(IFS='|' && echo "${kept[*]}")"
export PORTAL_CONFIG

header="# Template controlled environment for C.$instance"
if [[ ! -f /etc/environment || "$(head -n 1 /etc/environment)" != "$header" ]]; then
    {
        echo "$header"
        while IFS= read -r -d '' pair; do
            name="${pair%%=*}"
            case "$name" in HOME | SHLVL | _ | *CONDA*) continue ;; esac
            if [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then printf '%s=%q\n' "$name" "${pair#*=}"; fi
        done < <(env -0)
    } | publish /etc/environment
fi
set -a
# shellcheck source=/dev/null
. /etc/environment
# shellcheck source=/dev/null
if [[ -f $WORKSPACE/.env ]]; then . "$WORKSPACE/.env"; fi
set +a
