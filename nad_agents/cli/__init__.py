"""The `nad` command: ask a local model, see its candidates, and learn why one was chosen.

The command line is an application on top of the library. It uses the sandbox as well, which it imports when a command
needs it, and other packages add commands through the entry-point group ``nad_agents.commands``.

Exit codes: 0 answered; 1 the model or the verifier failed; 2 a parameter or the prompt is wrong; 3 no candidate passed
the checks; 4 something is missing (model, optional package, sandbox); 130 interrupted.
"""

from nad_agents.cli.commands import app, main

__all__ = ["app", "main"]
