"""The client of the fork server, in the place of ``python`` in the shell of a job (workflow/rules/common.smk).

``python -S fork_client.py SOCKET -m ramp.bank --model-dir ...``: as ``python -m ramp.bank ...``, in a copy of the
server, where there is one. A study calls it a hundred times, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys

SERVED = ("ramp.", "paper.")  # benchmarks measure whole processes; other modules start other programs
STREAMS = (0, 1, 2)


def ask(connection: socket.socket, module: str, arguments: list[str]) -> str:
    """Send a request, with the standard streams of this process; return the server's answer, empty if it has ended.

    The request: the module and its arguments, working directory, file mode mask and environment, as one line of JSON.
    """
    umask = os.umask(0o077)  # read by setting it; nothing is written before it is set back
    os.umask(umask)
    request = {"module": module, "arguments": arguments, "folder": os.getcwd(), "umask": umask}
    request["environment"] = dict(os.environ)
    try:
        socket.send_fds(connection, [b"\0"], STREAMS)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answer:
            return answer.readline()
    except (BrokenPipeError, ConnectionResetError):
        return ""


def main(argv: list[str]) -> int:
    """Run ``python`` with the arguments behind the socket in the server, where it can, else in this process's place.

    Returns the exit status; 128 and the number of a signal as a shell does.
    """
    address, *command = argv
    served = len(command) > 1 and command[0] == "-m" and command[1].startswith(SERVED)
    with socket.socket(socket.AF_UNIX) as connection:
        if not served or connection.connect_ex(address) != 0:
            os.execv(sys.executable, [sys.executable, *command])
        line = ask(connection, command[1], command[2:])
    if not line:
        print("error: the fork server ended before its job did", file=sys.stderr)
        return 1
    status = int(line)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
