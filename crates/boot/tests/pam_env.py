"""Prints what Linux-PAM's own pam_env makes of a file like /etc/environment: NAME=value, each ended by NUL."""

import ctypes
import pathlib
import sys
import tempfile

pam = ctypes.CDLL("libpam.so.0")
pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)


class Conversation(ctypes.Structure):
    """Who would be asked for a password: nobody."""

    _fields_ = [("ask", ctypes.c_void_p), ("data", ctypes.c_void_p)]


with tempfile.TemporaryDirectory() as services:
    line = f"session required pam_env.so conffile=/dev/null readenv=1 envfile={sys.argv[1]}\n"
    pathlib.Path(services, "session").write_text(line)
    handle = ctypes.c_void_p()
    conversation = Conversation()
    started = pam.pam_start_confdir(
        b"session", b"root", ctypes.byref(conversation), services.encode(), ctypes.byref(handle)
    )
    assert started == 0, started
    opened = pam.pam_open_session(handle, 0)
    assert opened == 0, opened
    variables = pam.pam_getenvlist(handle)
    index = 0
    while variables[index]:
        sys.stdout.buffer.write(variables[index] + b"\0")
        index += 1
