"""Source that is appended to a program in the sandbox: it makes an object and returns the outcome of steps on it.

It is never imported outside a sandbox, and its result comes from the program's own process, so it cannot be trusted.
"""


def _nad_observe_object(name: str, arguments: tuple, steps: list) -> list:  # type: ignore[type-arg]
    """Return `("returned", value)` or `("raised", exception)` for each step; the constructor's exceptions propagate."""
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
