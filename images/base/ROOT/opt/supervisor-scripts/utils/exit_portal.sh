# shellcheck shell=bash
# . exit_portal.sh "LABEL"
#
# Goes on only while /etc/portal.yaml lists an application whose label holds LABEL: a user switches an application off by removing
# its entry. While it is off, /tmp/supervisor-skip/$PROC_NAME says so. In serverless mode there is no portal to ask.

vast_exit_portal() {
    local label=$1 answer=0 markers=/tmp/supervisor-skip marker
    if [[ ${SERVERLESS:-} == [Tt][Rr][Uu][Ee] ]]; then
        return 0
    fi
    vast-portal listed --wait 120 -- "${label}" || answer=$?
    marker=${markers}/${PROC_NAME//\//_}
    case ${answer} in
    0)
        rm -f -- "${marker}"
        return 0
        ;;
    1)
        echo "Skipping ${PROC_NAME} startup (not in /etc/portal.yaml)"
        vast_mark "${markers}" "${marker}" || echo "${PROC_NAME}: cannot write ${marker}" >&2
        # Supervisor starts it again at once.
        sleep 6
        exit 0
        ;;
    *)
        echo "${PROC_NAME}: cannot tell whether /etc/portal.yaml lists \"${label}\"; Supervisor tries again" >&2
        sleep 6
        exit 1
        ;;
    esac
}

# Makes the empty file $2 in the directory $1, which everyone may write to: no link in either place is followed.
vast_mark() {
    local new
    mkdir -m 1777 "$1" 2> /dev/null
    [[ -d $1 && ! -L $1 && (-O $1 || ${EUID} != 0) ]] || return 1
    new=$(mktemp "$1/.new.XXXXXX") && chmod 644 "${new}" && mv -fT -- "${new}" "$2"
}

vast_exit_portal "${1:-${PROC_NAME}}"
