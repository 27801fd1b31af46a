#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_serverless.sh"
. "${utils}/exit_portal.sh" "Syncthing"

while [ -f "/.provisioning" ]; do
    echo "$PROC_NAME startup paused until instance provisioning has completed"
    sleep 5
done

PATH="${PATH}:/opt/syncthing"
if ! type -P syncthing > /dev/null; then
    echo "Skipping ${PROC_NAME} startup (syncthing is not installed)"
    sleep 6
    exit 0
fi

echo "Starting Syncthing"
port="$(vast-portal port "Syncthing" 2> /dev/null || echo 18384)"
# Supervisor is what starts it again. SYNCTHING_ARGS is a list of arguments, so it is split on purpose.
# shellcheck disable=SC2086
syncthing serve --no-browser --no-restart --gui-address="127.0.0.1:${port}" ${SYNCTHING_ARGS:-}
