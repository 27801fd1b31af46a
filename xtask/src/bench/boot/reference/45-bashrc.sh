# shellcheck shell=bash
# One marked block in the .bashrc of root and user.
block="### Shell setup ###
WORKSPACE=$(printf %q "$WORKSPACE")
set -a; . /etc/environment; if [ -f \"\$WORKSPACE/.env\" ]; then . \"\$WORKSPACE/.env\"; fi; set +a
if [ -s /opt/nvm/nvm.sh ]; then . /opt/nvm/nvm.sh; fi
. \"/venv/\${ACTIVE_VENV:-main}/bin/activate\"
case \$- in *i*) cd \"\$WORKSPACE\"; if [ -e /.provisioning ]; then echo 'still being set up'; fi ;; esac
### End shell setup ###"
for home in /root /home/user; do
    if [[ ! -d $home ]]; then continue; fi
    touch "$home/.bashrc"
    { sed '/^### Shell setup ###$/,/^### End shell setup ###$/d' "$home/.bashrc" && printf '%s\n' "$block"; } | publish "$home/.bashrc"
done
