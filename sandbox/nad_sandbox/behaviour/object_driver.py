"""Source that is appended to a program in the sandbox: it makes an object and returns the outcome of steps on it.

It is never imported outside a sandbox, and its result comes from the program's own process, so it cannot be trusted.
"""


def _nad_observe_object(maker: str, arguments: tuple | None, steps: list) -> list:  # type: ignore[type-arg]
    """Return `("returned", value)` or `("raised", exception)` for each step; the constructor's exceptions propagate.

    Args:
        maker: Source of what makes the object, or of the object itself if there are no arguments.
        arguments: Arguments of what makes the object.
        steps: For each step its kind, the name of a member, a function or an operator, and arguments.
    """
    import contextlib
    import io
    import itertools

    loops: list = []  # type: ignore[type-arg]  # one for all steps, since an object may keep something that belongs to a loop

    def awaited(value: object) -> object:
        import asyncio

        if not loops:
            loops.append(asyncio.new_event_loop())
        return loops[0].run_until_complete(value)

    def done(kind: str, name: str, given: tuple) -> object:  # type: ignore[type-arg]
        if kind == "call":
            value = getattr(made, name)(*given)
        elif kind == "get":
            value = getattr(made, name)
        elif kind == "set":
            setattr(made, name, *given)
            return None
        elif kind == "view":
            value = eval(name)(made)
        else:
            value = eval(f"lambda a, b: a {name} b")(made, eval(maker)(*given))
        if type(value).__name__ == "coroutine":
            value = awaited(value)
        if value is made:
            return "the object itself"
        return list(itertools.islice(value, 1000)) if hasattr(type(value), "__next__") else value

    told = []
    with contextlib.redirect_stdout(io.StringIO()):
        made = eval(maker) if arguments is None else eval(maker)(*arguments)
        for kind, name, given in steps:
            try:
                told.append(("returned", done(kind, name, given)))
            except Exception as error:  # noqa: BLE001 - whatever a method raises is observed
                told.append(("raised", type(error).__name__))
    for loop in loops:
        loop.close()
    return told
