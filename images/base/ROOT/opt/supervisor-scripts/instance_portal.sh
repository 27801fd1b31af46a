#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_serverless.sh"
. "${utils}/exit_portal.sh" "Instance Portal"

# Not held up by provisioning: it shows how that goes.
echo "Starting Instance Portal"
vast-portal serve
