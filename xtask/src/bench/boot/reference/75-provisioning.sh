# shellcheck shell=bash
if [[ -n ${PROVISIONING_SCRIPT-} && ! -e /.provisioning_complete ]]; then
    curl -fsSL --retry 3 "$PROVISIONING_SCRIPT" -o /provisioning.sh && bash /provisioning.sh >>/var/log/portal/provisioning.log 2>&1 &&
        touch /.provisioning_complete
fi
