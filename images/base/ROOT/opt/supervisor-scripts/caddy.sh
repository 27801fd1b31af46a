#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_serverless.sh"

# Not held up by provisioning: the portal behind it shows how that goes.
echo "Starting Caddy"
failed=
vast-portal caddy || failed=yes
# Where /etc is read-only, what vast-portal writes is in /run/vast-portal.
config=/etc/Caddyfile
[[ -s ${config} ]] || config=/run/vast-portal/Caddyfile
if [[ ${failed} ]]; then
    if [[ ! -s ${config} ]]; then
        sleep 6
        exit 1
    fi
    echo "Going on with the Caddyfile of the last start"
fi

exec caddy run --config "${config}" --adapter caddyfile
