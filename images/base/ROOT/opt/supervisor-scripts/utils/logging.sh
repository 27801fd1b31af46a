# shellcheck shell=bash
# . logging.sh [FILE]
#
# From here on, standard output and error go through vast-logtee: every byte to FILE (/var/log/portal/$PROC_NAME.log), clean text
# to /var/log/$PROC_NAME.log and to Supervisor. Defines `pty CMD…`, which runs a command on a pseudo-terminal, so that it
# shows its progress bars; with DISABLE_PTY=true it runs it plainly.

case ":${PATH}:" in
*:/opt/instance-tools/bin:*) ;;
*) export PATH="${PATH}:/opt/instance-tools/bin" ;;
esac

# Supervisor sets it; by hand, a script is named after its file.
if [[ -z ${PROC_NAME:-} ]]; then
    PROC_NAME=${0##*/}
    PROC_NAME=${PROC_NAME%.sh}
fi
export PROC_NAME

if type -P vast-logtee > /dev/null; then
    # Sourced without an argument, a file sees those of the script: only a path is meant for us.
    case ${1:-} in
    /* | ./*) exec > >(exec vast-logtee --name "${PROC_NAME}" -- "$1") 2>&1 ;;
    *) exec > >(exec vast-logtee --name "${PROC_NAME}") 2>&1 ;;
    esac
    # cleanup_generic.sh lets it have the last words.
    vast_logtee_pid=$!
    export -n vast_logtee_pid
else
    echo "${PROC_NAME}: vast-logtee is not installed: no log files"
fi

pty() {
    if [[ ${DISABLE_PTY:-} != [Tt][Rr][Uu][Ee] ]] && type -P vast-pty > /dev/null; then
        vast-pty "$@"
    else
        "$@"
    fi
}
