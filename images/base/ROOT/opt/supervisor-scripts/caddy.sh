#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_serverless.sh"

# Not held up by provisioning: the portal behind it shows how that goes.
echo "Starting Caddy"
if ! vast-portal caddy; then
    if [[ ! -s /etc/Caddyfile ]]; then
        sleep 6
        exit 1
    fi
    echo "Going on with the Caddyfile of the last start"
fi

exec caddy run --config /etc/Caddyfile --adapter caddyfile
