# shellcheck shell=bash
if [[ ! -e /.shell_first_boot_complete ]]; then
    for script in /etc/vast_boot.d/first_boot/[0-9][0-9]-*.sh; do
        # shellcheck source=/dev/null
        if [[ -f $script ]]; then . "$script"; fi
    done
    touch /.shell_first_boot_complete
fi
