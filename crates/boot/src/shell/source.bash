# shellcheck shell=bash
# shellcheck disable=SC2317 # what only a trap calls is not unreachable
# Sources one stage and writes down what it leaves behind, however it ends.
#
#   bash -c "$this" vast-boot STAGE RECORD ENV [NAME=VALUE ...]
#
# STAGE is sourced; RECORD receives NAME=VALUE of the variables named here, an empty record, the exported environment as ENV (the
# program `env`) prints it, and an empty record, each ended by NUL. A record without its last part was cut short.
#
# The stage runs in this very shell, so everything here has a name of its own and survives what a stage may do to a shell: options,
# traps, functions named like builtins.

# In POSIX mode `trap` below could not be a function.
set +o posix
umask 002

__vast_boot_stage=$1
__vast_boot_record=$2
__vast_boot_env=$3
__vast_boot_pid=$BASHPID
__vast_boot_trap=
__vast_boot_options=
__vast_boot_dumped=
__vast_boot_names=()
shift 3
for __vast_boot_pair in "$@"; do
    __vast_boot_names+=("${__vast_boot_pair%%=*}")
    declare +x -- "$__vast_boot_pair"
done
set --

__vast_boot_dump() {
    local __vast_boot_name
    {
        for __vast_boot_name in "${__vast_boot_names[@]}"; do
            builtin printf '%s=%s\0' "$__vast_boot_name" "${!__vast_boot_name-}"
        done
        builtin printf '\0'
        "$__vast_boot_env" -0 && builtin printf '\0'
    } >|"$__vast_boot_record"
}

# Remembers what options the stage had set, makes the shell calm enough to work in, and writes the environment down.
__vast_boot_note() {
    __vast_boot_options=$-
    builtin set +aeuxv
    builtin trap - DEBUG ERR RETURN
    builtin set +o posix
    __vast_boot_dump
    __vast_boot_dumped=1
}

__vast_boot_status_is() {
    return "$1"
}

# The handler of EXIT: the environment now, then the stage's own handler as bash would run it, then what that one left.
__vast_boot_finish() {
    local __vast_boot_status=$1
    if [[ -z $__vast_boot_dumped ]]; then __vast_boot_note; fi
    if [[ -n $__vast_boot_trap ]]; then
        local __vast_boot_handler=$__vast_boot_trap
        __vast_boot_trap=
        # A handler may end the shell itself.
        exit() {
            if [[ $BASHPID == "$__vast_boot_pid" ]]; then __vast_boot_dump; fi
            builtin exit "${1-$__vast_boot_status}"
        }
        # The handler sees the stage's status in $?, under the options that the stage had set.
        case $__vast_boot_options in *a*) builtin set -a ;; esac
        case $__vast_boot_options in *u*) builtin set -u ;; esac
        case $__vast_boot_options in *e*) builtin set -e ;; esac
        if [[ $__vast_boot_status == 0 ]]; then
            builtin eval "$__vast_boot_handler"
        else
            __vast_boot_status_is "$__vast_boot_status" || builtin eval "$__vast_boot_handler"
        fi
        builtin set +aeu
        __vast_boot_dump
    fi
    builtin exit "$__vast_boot_status"
}

# A stage's own EXIT handler is kept beside ours instead of replacing it; all else is the builtin.
# shellcheck disable=SC2064 # arguments are passed on, not composed
trap() {
    case "$#:${1-}:${2-}" in
    2:-p:EXIT | 2:-p:0)
        # Also in `$(trap -p EXIT)`, by which a script adds to an earlier handler.
        if [[ -n $__vast_boot_trap ]]; then builtin printf 'trap -- %q EXIT\n' "$__vast_boot_trap"; fi
        return
        ;;
    0:* | *:-[lp]*:*)
        builtin trap "$@"
        return
        ;;
    esac
    if [[ $BASHPID != "$__vast_boot_pid" ]]; then
        builtin trap "$@"
        return
    fi
    if [[ $1 == -- ]]; then shift; fi
    local __vast_boot_action=- __vast_boot_signal __vast_boot_others=()
    if [[ $# -gt 1 && ! $1 =~ ^[0-9]+$ ]]; then
        __vast_boot_action=$1
        shift
    fi
    for __vast_boot_signal in "$@"; do
        case ${__vast_boot_signal^^} in
        EXIT | SIGEXIT | 0)
            __vast_boot_trap=
            if [[ $__vast_boot_action != - ]]; then __vast_boot_trap=$__vast_boot_action; fi
            ;;
        *) __vast_boot_others+=("$__vast_boot_signal") ;;
        esac
    done
    if [[ ${#__vast_boot_others[@]} -gt 0 ]]; then builtin trap -- "$__vast_boot_action" "${__vast_boot_others[@]}"; fi
}

builtin trap '__vast_boot_finish "$?"' EXIT
# shellcheck source=/dev/null
. "$__vast_boot_stage"
# Reached unless the stage ended the shell: also when it took the handler of EXIT from us.
__vast_boot_status=$?
__vast_boot_note
builtin exit "$__vast_boot_status"
