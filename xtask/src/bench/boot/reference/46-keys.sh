# shellcheck shell=bash
# Root's keys to each user.
if [[ -f /root/.ssh/authorized_keys ]]; then
    chmod 700 /root/.ssh
    chmod 600 /root/.ssh/authorized_keys
    for home in /home/*; do
        if [[ ! -d $home ]]; then continue; fi
        mkdir -p "$home/.ssh"
        touch "$home/.ssh/authorized_keys"
        while IFS= read -r key; do
            if [[ -n $key && $key != \#* ]] && ! grep -qxF "$key" "$home/.ssh/authorized_keys"; then
                printf '%s\n' "$key" >>"$home/.ssh/authorized_keys"
            fi
        done </root/.ssh/authorized_keys
        chown "$(stat -c %u:%g "$home")" "$home/.ssh" "$home/.ssh/authorized_keys"
        chmod 700 "$home/.ssh"
        chmod 600 "$home/.ssh/authorized_keys"
    done
fi
