"""The `nad` command: ask a local model, see its candidates, and learn why one was chosen.

The command line is an application on top of the library. It uses the sandbox as well, which it imports when a command
needs it, and other packages add commands through the entry-point group ``nad_agents.commands``.

Exit codes: 0 answered; 1 the model or the verifier failed; 2 a parameter, the prompt or a recorded run is wrong; 3 no
candidate passed the checks; 4 something is missing (model, optional package, sandbox); 130 interrupted.
"""

from __future__ import annotations

import json
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; Ctrl-C ends it with the exit status 130, even while it still imports its packages.

    Raises:
        SystemExit: The command has ended; the error's code is the exit status.
    """
    try:
        from nad_agents.cli import commands

        commands.main()
    except KeyboardInterrupt:
        # nothing can be relied on here but the standard library
        if "--json" in sys.argv[1:]:
            print(json.dumps({"error": {"type": "KeyboardInterrupt", "message": "interrupted"}}))  # noqa: T201
        print("error: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
