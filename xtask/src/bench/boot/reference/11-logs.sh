# shellcheck shell=bash
# A log that its user can write, for each program of Supervisor that has one.
mkdir -p /var/log/portal
chmod 1777 /var/log/portal
while read -r program user; do
    if id -u "$user" >/dev/null 2>&1; then
        touch "/var/log/$program.log"
        chown "$user:" "/var/log/$program.log"
    fi
done < <(awk '
    /^\[/ { program = ""; if (match($0, /^\[program:[^]]*\]/)) { program = substr($0, 10, RLENGTH - 10) } }
    program != "" && /^user[ \t]*=/ { sub(/^user[ \t]*=[ \t]*/, ""); sub(/[ \t]*;.*/, ""); if ($0 != "root") print program, $0 }
' /etc/supervisor/supervisord.conf /etc/supervisor/conf.d/*.conf)
