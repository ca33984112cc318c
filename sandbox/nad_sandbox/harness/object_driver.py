"""Source that is appended to a program in the sandbox: it makes an object and returns the outcome of steps on it.

It is never imported outside a sandbox, and its result comes from the program's own process, so it cannot be trusted.
"""

_NAD_LOOKS: "dict[str, object]" = {}  # by the name of a class, a function that returns its objects' state
_NAD_ITEMS = 1000


def _nad_observe_object(make, steps, raised_on_purpose):
    """Return for each step `("returned", value)`, or the name of the exception behind "raised" or "raised on purpose".

    The constructor's exceptions propagate.

    Args:
        make: Function that makes the object.
        steps: Functions of the object.
        raised_on_purpose: Says whether the program raised an exception itself.
    """
    import contextlib
    import io
    import itertools

    loops = []  # one for all steps, since an object may keep something that belongs to a loop

    def awaited(value):
        import asyncio

        if not loops:
            loops.append(asyncio.new_event_loop())
        return loops[0].run_until_complete(value)

    def shown(value, depth=0):
        """Return a copy of a value, in which objects of the program's classes are replaced by their public state."""
        if type(value).__name__ == "coroutine":
            value = awaited(value)
        if value is made and made is not None:
            return "the object itself"
        if type(value) in (list, tuple, set) and depth < 12:
            return type(value)(shown(item, depth + 1) for item in value)
        if type(value) is dict and depth < 12:
            return {key: shown(item, depth + 1) for key, item in value.items()}
        if isinstance(value, type):
            return f"the class {value.__name__}"
        look = _NAD_LOOKS.get(type(value).__name__)
        if look is not None and depth < 3:
            return (type(value).__name__, shown(look(value), depth + 1))
        is_own = type(value).__module__ == __name__ and not hasattr(type(value), "__members__")
        if is_own and not callable(value) and hasattr(value, "__dict__"):
            # what a program calls its helpers, such as the nodes of a list, is a matter of taste
            return ["an object", *(shown(part, depth + 1) for part in vars(value).values() if depth < 12)]
        return list(itertools.islice(value, _NAD_ITEMS)) if hasattr(type(value), "__next__") else value

    told = []
    made = None
    with contextlib.redirect_stdout(io.StringIO()):
        made = make()
        if type(made).__name__ == "coroutine":
            made = awaited(made)
    for step in steps:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                end, value = "returned", shown(step(made))
            except Exception as error:  # noqa: BLE001 - whatever a method raises is observed
                end, value = "raised", type(error).__name__
                if raised_on_purpose(error):
                    end = "raised on purpose"
        # what a class prints is a matter of taste, but not which functions it calls
        notes = [line for line in out.getvalue().splitlines() if line.startswith("called back ")]
        told.append((end, [value, *notes] if notes and end == "returned" else value))
    for loop in loops:
        loop.close()
    return told


def _nad_items(iterable):
    """Return the first items of an iterable that may have no end."""
    import itertools

    return list(itertools.islice(iter(iterable), _NAD_ITEMS))


async def _nad_async_items(iterable):
    """Return the first items of an asynchronous iterable."""
    found = []
    async for item in iterable:
        found.append(item)
        if len(found) >= _NAD_ITEMS:
            break
    return found


def _nad_with(manager, look, error=None):
    """Return what a `with` statement binds, and what `look` sees in its block, which raises an exception if given."""
    with manager as bound:
        seen = look(manager)
        if error is not None:
            raise error
    return (bound, *seen) if seen else bound


async def _nad_async_with(manager, look, error=None):
    """Return the same for an `async with` statement."""
    async with manager as bound:
        seen = look(manager)
        if error is not None:
            raise error
    return (bound, *seen) if seen else bound


def _nad_printed(function):
    """Return what a function returns or raises, and what it prints."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            result = function()
            if type(result).__name__ == "coroutine":
                import asyncio

                result = asyncio.run(result)
        except Exception as error:  # noqa: BLE001 - whatever a context manager lets through is observed
            result = f"raises {type(error).__name__}"
    return (result, out.getvalue())


def _nad_owner(descriptor):
    """Return an object whose attribute `value` is managed by a descriptor."""
    return type("Owner", (), {"value": descriptor})()


def _nad_computing(decorator):
    """Return an object whose attribute `value` is computed by a method that a descriptor wraps, and counts that."""

    class Owner:
        computed = 0

        @decorator
        def value(self):
            self.computed += 1
            return 10 + self.computed

    return Owner()


class _NadDecorated:
    """A decorated function whose calls are counted.

    Args:
        decorator: The decorator.
        failures: Number of the first calls of the function that raise an exception.
    """

    def __init__(self, decorator, failures=0):
        self.calls = 0

        def function(*args, **kwargs):
            self.calls += 1
            if self.calls <= failures:
                raise ValueError(self.calls)
            return [*args, *kwargs.values()]

        self.function = decorator(function)

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.function, name)
