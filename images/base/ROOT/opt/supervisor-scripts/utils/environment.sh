# shellcheck shell=bash
# . environment.sh
#
# Loads /etc/environment and ${WORKSPACE}/.env, and exports what they set. A line that fails costs that line, whatever options the
# script has set.

vast_load() {
    # Named so that no file means them.
    local vast_load_options vast_load_text
    [[ -f $1 && -r $1 ]] || return 0
    vast_load_options=$(set +o)
    [[ $- == *e* ]] && vast_load_options+=$'\nset -e'
    set +eu +o pipefail
    set -o allexport
    vast_load_text=$(< "$1")
    # Line ends of Windows editors go; a carriage return within a line belongs to a value.
    vast_load_text=${vast_load_text//$'\r\n'/$'\n'}
    eval "${vast_load_text%$'\r'}"
    eval "${vast_load_options}"
}

vast_load /etc/environment
export WORKSPACE="${WORKSPACE:-/workspace}"
vast_load "${WORKSPACE}/.env"
export DATA_DIRECTORY="${DATA_DIRECTORY:-${WORKSPACE}}"

case ":${PATH}:" in
*:/opt/instance-tools/bin:*) ;;
*) export PATH="${PATH}:/opt/instance-tools/bin" ;;
esac
