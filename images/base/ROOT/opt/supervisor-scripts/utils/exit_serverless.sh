# shellcheck shell=bash
# . exit_serverless.sh
#
# Ends the script in serverless mode (SERVERLESS=true), where only what serves requests runs.

if [[ ${SERVERLESS:-} == [Tt][Rr][Uu][Ee] ]]; then
    echo "Skipping ${PROC_NAME:-application} startup (serverless mode)"
    # Supervisor starts it again at once.
    sleep 6
    exit 0
fi
