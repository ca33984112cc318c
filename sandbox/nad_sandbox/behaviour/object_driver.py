"""Appended to a program inside the sandbox: makes an object, takes steps on it, and returns what came of each.

It is never imported outside of a sandbox, and what it returns is data of the program's own process.
"""


def _nad_observe_object(name: str, arguments: tuple, steps: list) -> list:  # type: ignore[type-arg]
    """Return for each step `("returned", value)` or `("raised", exception)`; raise what the constructor raises."""
    import contextlib
    import io

    told = []
    with contextlib.redirect_stdout(io.StringIO()):
        made = eval(name)(*arguments)
        for kind, member, given in steps:
            try:
                if kind == "call":
                    value = getattr(made, member)(*given)
                elif kind == "get":
                    value = getattr(made, member)
                else:
                    value = eval(member)(made)
            except Exception as error:  # noqa: BLE001 - whatever a method raises is observed
                told.append(("raised", type(error).__name__))
            else:
                told.append(("returned", "the object itself" if value is made else value))
    return told
