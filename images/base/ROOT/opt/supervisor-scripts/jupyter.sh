#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_serverless.sh"

skip() {
    echo "Skipping ${PROC_NAME} startup ($1)"
    sleep 6
    exit 0
}

# The platform's own start script names Jupyter where the platform runs it.
if [[ ${JUPYTER_OVERRIDE:-} != [Tt][Rr][Uu][Ee] ]] && grep -qis jupyter /.launch; then
    skip "the platform runs Jupyter"
fi

. "${utils}/exit_portal.sh" "Jupyter"

jupyter=${JUPYTER_BIN:-/venv/main/bin/jupyter}
[[ -x ${jupyter} ]] || skip "${jupyter} is not installed"

# Its kernels and terminals use the shared environment.
[[ -f /venv/main/bin/activate ]] && . /venv/main/bin/activate

# Terminals are bash, and Caddy is what asks for the token.
export SHELL=/bin/bash
unset JUPYTER_TOKEN

# Jupyter does not start with a preferred directory that is missing.
preferred=()
[[ -d ${DATA_DIRECTORY} ]] && preferred=(--FileContentsManager.preferred_dir="${DATA_DIRECTORY}")

# Not held up by provisioning: a terminal is what one wants when that goes wrong.
echo "Starting Jupyter"
cd / || exit 1
"${jupyter}" "${JUPYTER_TYPE:-notebook}" \
    --allow-root \
    --no-browser \
    --ip=127.0.0.1 \
    --port=18080 \
    --ServerApp.port_retries=0 \
    --ServerApp.allow_remote_access=True \
    --ServerApp.allow_origin='*' \
    --ServerApp.trust_xheaders=True \
    --ServerApp.root_dir=/ \
    --IdentityProvider.token='' \
    "${preferred[@]}"
