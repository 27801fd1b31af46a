#!/bin/bash
set -euo pipefail
# 1. System dependencies (if needed)
apt-get install --no-install-recommends -y sox
# 2. Activate the shared venv
. /venv/main/bin/activate
# 3. Clone the application
cd "${WORKSPACE}"
[[ ! -d My-App ]] && git clone https://github.com/org/My-App
cd My-App
# 4. Install Python dependencies
uv pip install -r requirements.txt
# 5. Create the supervisor startup script
cat > /opt/supervisor-scripts/my-app.sh << 'EOL'
#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
. "${utils}/exit_portal.sh" "My App"
. /venv/main/bin/activate
echo "Starting My App"
cd "${WORKSPACE}/My-App"
python app.py
EOL
chmod +x /opt/supervisor-scripts/my-app.sh
# 6. Create the supervisor config
cat > /etc/supervisor/conf.d/my-app.conf << 'EOL'
[program:my-app]
environment=PROC_NAME="%(program_name)s"
command=/opt/supervisor-scripts/my-app.sh
autostart=true
autorestart=true
exitcodes=0
startsecs=0
stopasgroup=true
killasgroup=true
stopsignal=TERM
stopwaitsecs=10
stdout_logfile=/dev/stdout
redirect_stderr=true
stdout_events_enabled=true
stdout_logfile_maxbytes=0
stdout_logfile_backups=0
EOL
# 7. Register with supervisor
supervisorctl reread
supervisorctl update
