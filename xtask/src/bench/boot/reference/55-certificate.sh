# shellcheck shell=bash
# A certificate that fits its key and has not expired.
usable=false
if [[ -s /etc/instance.crt && -s /etc/instance.key ]] && openssl x509 -in /etc/instance.crt -noout -checkend 0 >/dev/null 2>&1 &&
    [[ "$(openssl x509 -in /etc/instance.crt -noout -pubkey)" == "$(openssl pkey -in /etc/instance.key -pubout)" ]]; then
    usable=true
fi
if [[ $usable == false ]]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj '/C=US/ST=CA/CN=jupyter.vast.ai' -addext 'subjectAltName=IP:0.0.0.0' \
        -keyout /etc/instance.key -out /etc/instance.crt 2>/dev/null || export ENABLE_HTTPS=false
    chmod 600 /etc/instance.key
fi
