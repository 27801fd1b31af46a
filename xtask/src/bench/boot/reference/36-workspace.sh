# shellcheck shell=bash
# What the image brings and the workspace lacks. Homes and environments stay: nobody asked for them to move.
for item in /opt/workspace-internal/* /opt/workspace-internal/.[!.]*; do
    if [[ -e $item && ! -e $WORKSPACE/${item##*/} ]]; then
        cp -a "$item" "$WORKSPACE/.new-${item##*/}" && mv "$WORKSPACE/.new-${item##*/}" "$WORKSPACE/${item##*/}"
    fi
done
