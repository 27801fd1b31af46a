# shellcheck shell=bash
touch /.provisioning
supervisord -n -c /etc/supervisor/supervisord.conf &
supervisord_pid=$!
