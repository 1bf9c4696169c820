"""Runs a command on a terminal of its own, and says in JSON how it leaves it.

    terminal.py HOW COMMAND...

HOW is a signal (TERM) that the command gets when it has taken the terminal over, a key (key:q) that is
pressed then, or `wait`: it ends by itself.
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

TAKES, GIVES, SHOWS = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
SOON = 30

how, command = sys.argv[1], sys.argv[2:]
ours, its = pty.openpty()
fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
before = termios.tcgetattr(its)
child = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
seen, was_raw, has_acted, deadline = b"", False, False, time.monotonic() + SOON


def read():
    global seen
    while select.select([ours], [], [], 0.01)[0]:
        seen += os.read(ours, 65536)


while child.poll() is None:
    read()
    if time.monotonic() > deadline:
        child.kill()
        sys.exit(f"it has not ended: {seen!r}")
    was_raw = was_raw or not termios.tcgetattr(its)[3] & termios.ICANON
    # Something is on the screen.
    is_there = TAKES in seen and len(seen.split(TAKES)[1]) > 200
    if is_there and was_raw and not has_acted and how != "wait":
        has_acted = True
        if how.startswith("key:"):
            os.write(ours, how[4:].encode())
        else:
            child.send_signal(getattr(signal, f"SIG{how}"))
read()
after = seen.rpartition(GIVES)[2] if GIVES in seen else b""
print(
    json.dumps(
        {
            "was_taken": TAKES in seen,
            "was_raw": was_raw,
            "is_given_back": termios.tcgetattr(its) == before and seen.count(GIVES) == 1 and SHOWS in seen,
            "code": child.returncode,
            "after": after.decode(errors="replace"),
        }
    )
)
