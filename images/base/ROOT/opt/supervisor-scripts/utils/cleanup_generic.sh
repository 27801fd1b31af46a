# shellcheck shell=bash
# . cleanup_generic.sh
#
# When the script ends, whether by itself or by INT or TERM, every process that it started, directly or not, gets TERM, after 5 s
# KILL. The script's exit code is kept. (bash runs a trap once the foreground command has ended: Supervisor's
# `stopasgroup` is what reaches that command.)

vast_stop_seconds=5

# Adds to the array vast_tree the descendants of process $1, each as PID:START, so that a reused number is no match.
# Processes that have ended and wait to be collected are left out, and so is the logger.
vast_find_tree() {
    local IFS=$' \t\n' file stat pid next
    local -a fields queue=("$1")
    local -A children=() starts=()
    for file in /proc/[0-9]*/stat; do
        stat=
        { IFS= read -r -d '' stat < "${file}"; } 2> /dev/null
        # `12 (any (name)) S 1 …`: the parent is the second field after the name, the start the twentieth.
        # shellcheck disable=SC2206
        fields=(${stat##*) })
        pid=${stat%% *}
        if ((${#fields[@]} > 19)) && [[ ${fields[0]} != [ZX] && ${pid} != "${vast_logtee_pid:-}" ]]; then
            children[${fields[1]}]+=" ${pid}"
            starts[${pid}]=${fields[19]}
        fi
    done
    vast_tree=()
    while ((${#queue[@]})); do
        for next in ${children[${queue[0]}]:-}; do
            queue+=("${next}")
            vast_tree+=("${next}:${starts[${next}]}")
        done
        queue=("${queue[@]:1}")
    done
}

# Sends signal $1 to the processes PID:START that follow, if they are still there; fails when none is.
vast_signal() {
    local signal=$1 process stat found=1
    local -a fields
    shift
    for process in "$@"; do
        stat=
        { IFS= read -r -d '' stat < "/proc/${process%:*}/stat"; } 2> /dev/null
        # shellcheck disable=SC2206
        fields=(${stat##*) })
        if [[ ${fields[19]:-} == "${process#*:}" && ${fields[0]} != [ZX] ]]; then
            found=0
            kill -s "${signal}" "${process%:*}" 2> /dev/null
        fi
    done
    return "${found}"
}

# Adds vast_tree to the keys of the array all.
vast_remember() {
    local process
    for process in "${vast_tree[@]}"; do
        all[${process}]=1
    done
}

vast_cleanup() {
    local code=$? deadline
    local -a vast_tree=()
    local -A all=()
    trap '' INT TERM
    trap - EXIT
    set +eu +o pipefail
    vast_find_tree "$$"
    vast_remember
    if vast_signal TERM "${!all[@]}"; then
        # A stopped process takes its signal when it goes on.
        vast_signal CONT "${!all[@]}"
        deadline=$((SECONDS + vast_stop_seconds))
        while ((SECONDS <= deadline)) && vast_signal 0 "${!all[@]}"; do
            sleep 0.1
            # Children born meanwhile. Those known stay: an orphan is nobody's descendant any more.
            vast_find_tree "$$"
            vast_remember
        done
        vast_signal KILL "${!all[@]}"
    fi
    if [[ -n ${vast_logtee_pid:-} ]]; then
        # The log is complete before Supervisor sees the end, unless something that was not ours keeps it open.
        exec >&- 2>&-
        for _ in {1..20}; do
            kill -0 "${vast_logtee_pid}" 2> /dev/null || break
            sleep 0.05
        done
    fi
    exit "${code}"
}

trap vast_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
