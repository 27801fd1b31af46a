#!/bin/bash
# A boot by plain shell scripts: the stages beside this file, sourced in order. They do what the stages of vast-boot do on an instance in
# which everything is in place, and write what is missing, as a careful author would. `cargo xtask bench boot` compares the two.

umask 002
export WORKSPACE="${WORKSPACE:-/workspace}"
instance="${CONTAINER_ID:-${VAST_CONTAINERLABEL#C.}}"
log=/var/log/shell_boot.log

# Replaces a file in one step when its content differs; the content is on standard input.
publish() {
    local new
    new="$(cat && printf .)"
    new="${new%.}"
    if [[ -f $1 && "$(cat "$1" && printf .)" == "$new." ]]; then return 0; fi
    printf '%s' "$new" >"$1.new" && chmod --reference="$1" "$1.new" 2>/dev/null
    mv "$1.new" "$1"
}

for stage in "${BASH_SOURCE[0]%/*}"/[0-9][0-9]-*.sh; do
    started="${EPOCHREALTIME/./}"
    # shellcheck source=/dev/null
    . "$stage"
    printf '%s %s us\n' "${stage##*/}" "$((${EPOCHREALTIME/./} - started))" >>"$log"
done
