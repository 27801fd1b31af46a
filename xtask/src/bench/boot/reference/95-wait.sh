# shellcheck shell=bash
rm -f /.provisioning
wait "$supervisord_pid"
