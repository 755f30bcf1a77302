"""Run commands in one process under an audit hook, and print what they opened and connected to as JSON.

    python tests/watched.py COMMANDS.json

COMMANDS.json holds a list of argument lists. The output has an object for each: its `arguments`, its exit `code`, the
`sockets` it used and the `written` paths, absolute.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")
CHANGES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.link": 1, "os.symlink": 1}
"""Event -> which of its arguments is the path that changes."""

sockets: list[str] = []
written: set[str] = set()


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in CONNECTIONS:
        sockets.append(f"{event} {arguments[1:]}")
    elif event == "open":
        path, mode, flags = arguments
        writes = any(letter in (mode or "") for letter in "wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes and not isinstance(path, int):
            written.add(absolute(path))
    elif event in CHANGES and not isinstance(arguments[CHANGES[event]], int):
        written.add(absolute(arguments[CHANGES[event]]))


def absolute(path: Any) -> str:
    """A path as the hook is given it, absolute; links are not followed, since that would open files."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100


def main() -> None:
    commands = json.loads(Path(sys.argv[1]).read_text())
    answer = os.fdopen(os.dup(1), "w")
    sys.addaudithook(hook)
    from irsde_deploy.__main__ import main as program

    for arguments in commands:
        sockets.clear()
        written.clear()
        sys.argv = ["irsde-deploy", *arguments]
        try:
            program()
        except SystemExit as ending:
            code = ending.code
        print(json.dumps([arguments, code, sockets, sorted(written)]), file=answer, flush=True)


if __name__ == "__main__":
    main()
