#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_portal.sh" "Hello"

. /venv/main/bin/activate

while [ -f "/.provisioning" ]; do
    echo "$PROC_NAME startup paused until instance provisioning has completed"
    sleep 5
done

echo "Starting Hello"
cd "${WORKSPACE}/hello" || exit 1
port="$(vast-portal port "Hello" || echo 7860)"
# HELLO_ARGS is a list of arguments, so it is split on purpose.
# shellcheck disable=SC2086
python app.py --host 127.0.0.1 --port "${port}" ${HELLO_ARGS:-}
