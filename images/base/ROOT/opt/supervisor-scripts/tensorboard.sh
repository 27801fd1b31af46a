#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_serverless.sh"
. "${utils}/exit_portal.sh" "Tensorboard"

[[ -f /venv/main/bin/activate ]] && . /venv/main/bin/activate

while [ -f "/.provisioning" ]; do
    echo "$PROC_NAME startup paused until instance provisioning has completed"
    sleep 5
done

if ! type -P tensorboard > /dev/null; then
    echo "Skipping ${PROC_NAME} startup (tensorboard is not installed)"
    sleep 6
    exit 0
fi

echo "Starting TensorBoard"
port="$(vast-portal port "Tensorboard" 2> /dev/null || echo 16006)"
# TENSORBOARD_ARGS is a list of arguments, so it is split on purpose.
# shellcheck disable=SC2086
tensorboard --host 127.0.0.1 --port "${port}" --logdir "${TENSORBOARD_LOG_DIR:-${WORKSPACE}}" ${TENSORBOARD_ARGS:-}
