#!/bin/bash
# The environment hash, scheme 1, by the tools that define it: bash, python3, dpkg, grep, sort, sha256sum.
#
# The oracle of the tests: what `vast-envhash` computes from the files alone has to be this, byte for byte. It reads the
# running system, so a test that compares another root runs it in a chroot. `RECIPE_TRACE=FILE` appends each component's
# text to a file.
set -euo pipefail

cd /
for name in "${!PYTHON@}" COLUMNS; do unset "$name"; done
export LC_ALL=C.UTF-8

h12() {
    tee -a "${RECIPE_TRACE:-/dev/null}" | sha256sum | cut -c 1-12
}

# grep, for which no match is no failure.
matching() { grep -E "$1" || [[ $? == 1 ]]; }

installed() {
    local state name version rest
    while read -r state name version rest; do
        if [[ $state == ii* ]]; then printf '%s=%s\n' "$name" "$version"; fi
    done
}

system() {
    python3 -c 'import platform, sysconfig; print(sysconfig.get_platform()); print(platform.machine())'
    # `$(…)` drops the line ends and printf gives one back: with no matching line, that is an empty line.
    printf '%s\n' "$(if [[ -f /etc/os-release ]]; then matching '^(VERSION_ID|VERSION_CODENAME)=' < /etc/os-release | sort; fi)"
}

apt() {
    if command -v dpkg > /dev/null; then
        # `dpkg -l` fails where it has nothing to list.
        { dpkg -l 2> /dev/null || true; } | installed | matching '^lib|dev$|cuda|rocm' | sort
    fi
}

distributions='
import sys
from importlib.metadata import distributions

lines = sorted("%s==%s" % (found.metadata["Name"], found.metadata["Version"]) for found in distributions())
text = "%d.%d.%d\n%s\n" % (*sys.version_info[:3], "\n".join(lines))
sys.stdout.buffer.write(text.encode())
'

venv() {
    if [[ -f $1bin/python && -x $1bin/python ]]; then
        "$1bin/python" -W ignore -c "$distributions"
    fi
}

shopt -s nullglob
hashes=$(system | h12)$(apt | h12)
for directory in /venv/*/; do
    hashes+=$(venv "$directory" | h12)
done
printf '%s\n' "$hashes" | h12
