# shellcheck shell=bash
# git trusts the workspace's repositories.
mapfile -t repositories < <(find "$WORKSPACE" -xdev -maxdepth 5 \
    \( -name node_modules -o -name .environment_sync \) -prune -o -name .git -printf '%h\n' -prune | sort)
for home in /root /home/user; do
    trusted="$(HOME="$home" git config --global --get-all safe.directory)"
    for repository in "${repositories[@]}"; do
        if ! grep -qxF "$repository" <<<"$trusted"; then
            HOME="$home" git config --global --add safe.directory "$repository"
        fi
    done
done
