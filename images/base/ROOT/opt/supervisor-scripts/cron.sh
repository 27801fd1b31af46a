#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"

if ! type -P cron > /dev/null; then
    echo "Skipping ${PROC_NAME} startup (cron is not installed)"
    sleep 6
    exit 0
fi

# Jobs may use what provisioning installs.
while [ -f "/.provisioning" ]; do
    echo "$PROC_NAME startup paused until instance provisioning has completed"
    sleep 5
done

echo "Starting cron"
cron -f
