"""Runs a program on a terminal of its own, whatever the caller's session has: SECONDS PROGRAM [ARGUMENT...].

Exits as the program does, or with 124 once the time is over.
"""

import os
import pty
import select
import signal
import sys
import time

end = time.monotonic() + float(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown = b""
while True:
    left = end - time.monotonic()
    if left <= 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.stdout.buffer.write(shown[-8192:])
        sys.exit(124)
    if not select.select([terminal], [], [], left)[0]:
        continue
    try:
        octets = os.read(terminal, 65536)
    except OSError:
        # The last program on the terminal is gone.
        octets = b""
    if not octets:
        break
    shown += octets
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.stdout.buffer.write(shown[-8192:])
sys.exit(status if status >= 0 else 128 - status)
