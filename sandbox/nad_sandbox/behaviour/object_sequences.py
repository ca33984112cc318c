"""Sequences of steps on an object of the candidates' class: construct it, call methods, then read its state."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from importlib import resources

from nad_sandbox.behaviour import object_steps
from nad_sandbox.behaviour.call_arguments import Arguments, generate_calls
from nad_sandbox.behaviour.object_steps import ObjectSequence, Step
from nad_sandbox.behaviour.parameter_types import OwnTypes, is_function
from nad_sandbox.behaviour.signature import Signature
from nad_sandbox.behaviour.target_class import Method, TargetClass

__all__ = ["driver_source", "generate_sequences", "reading_steps"]

_CALLS, _MOST_CALLS = 3, 10
"""Number of calls for each method in a generated sequence, and largest number of calls, before the state is read."""
_POOLS = (2, 3, 3, 5, 16)
"""Numbers of rows of arguments from which a sequence draws those of a method; with few rows, keys come again."""
_FIRST = (0, 0, 1, 2, 3)
"""Places of the first of these rows."""
_ERRORS = ("", "ValueError('x')", "", "KeyError('x')")
"""What the blocks of `with` statements raise."""
_DECORATED_CALLS: tuple[tuple[tuple[object, ...], ...], ...] = (
    ((1,), (2,), (1,), (3,), (1,), (2,)),
    (("a",), ("b",), ("c",), ("a",), ("d",), ("a",), ("b",)),
    ((1,), (1,), (2,)),
    ((2, 3), (3, 2), (2, 3), ()),
)
"""Arguments of the calls of a decorated function; the least recently used ones do not come first."""
_FAILURES = (0, 0, 2, 9)
"""How many of the function's first calls fail."""
_FEW_DECORATORS, _FEW_CONSTRUCTORS = 4, 5
_EDGES = 8
"""One of so many sequences begins with arguments that are edge cases, such as zero."""


def driver_source(targets: Sequence[TargetClass]) -> str:
    """Return the source that is appended to every program, so that steps on objects of the classes can be taken."""
    source = resources.files("nad_sandbox.harness").joinpath("object_driver.py").read_text(encoding="utf-8")
    looks = [
        f"{target.name!r}: {object_steps.state(target.attributes, target.views)}"
        for target in targets
        if target.kind == "class" and not target.members
    ]
    return f"{source}\n_NAD_LOOKS = {{{', '.join(looks)}}}\n" if looks else source


def generate_sequences(target: TargetClass, count: int, *, own: OwnTypes | None = None) -> list[ObjectSequence]:
    """Return sequences of steps, which are the same each time.

    They begin with each method in turn and go on with random calls from a fixed seed, with usual values more often than
    with edge cases, and end by reading the object's state.

    Args:
        target: The class.
        count: Largest number of sequences to return.
        own: Values of the program's own types.
    """
    if target.kind == "decorator":
        return _on_decorators(target, count, own)
    if target.kind == "context function":
        return _on_context_functions(target, count, own)
    if target.kind == "descriptor":
        return _on_descriptors(target, count, own)
    constructors = _rows(target.constructor, count, own, target.optional)
    rows = {method.name: _rows(method.parameters, count, own, method.optional) for method in target.methods}
    assigned = {setter.name: _rows(setter.parameters, count, own) for setter in target.setters}
    draw = random.Random(0)
    sequences: list[ObjectSequence] = []
    for place, maker in enumerate(_makers(target, constructors, count, own)):
        steps: list[Step] = []
        if target.methods:
            names = [method.name for method in target.methods]
            kept = place % _FEW_CONSTRUCTORS
            if kept in (1, 2) and len(names) > 1:
                steps += _stored_and_read(target.methods, rows, place // _FEW_CONSTRUCTORS, kept + 1)
            else:
                calls = min(_CALLS * len(names), _MOST_CALLS)
                drawn = (names[place % len(names)], *draw.choices(names, k=calls - 1))
                first = draw.choice(_FIRST)
                pool = slice(first, first + draw.choice(_POOLS))
                steps += [object_steps.call(name, _drawn(rows[name][pool] or rows[name], draw)) for name in drawn]
        for statement in target.contexts:
            steps.append(object_steps.context(statement, target.attributes, _ERRORS[place % len(_ERRORS)]))
        steps += [object_steps.setter(name, draw.choice(given)) for name, given in assigned.items() if given]
        steps += reading_steps(target)
        if not target.members:
            steps += _comparisons(target, constructors, place)
        sequences.append(ObjectSequence(maker, tuple(steps)))
    if target.members:
        sequences.insert(0, ObjectSequence(target.name, (object_steps.view("list"),)))
    return sequences


def _stored_and_read(
    methods: Sequence[Method], rows: Mapping[str, Sequence[Arguments]], place: int, kept: int
) -> list[Step]:
    """Return calls that store a few values, read the first, store one more and read again, as users of a cache do.

    Of more than two values, the first two are stored under the same key.

    Args:
        methods: The methods; one with most parameters stores, and one or two others read.
        rows: Arguments for each method.
        place: Number of the sequence, which decides which methods are called.
        kept: Number of values to store first.
    """
    most = max(len(method.parameters) for method in methods)
    writers = [method.name for method in methods if len(method.parameters) == most]
    writer = writers[place % len(writers)]
    readers = [method.name for method in methods if method.name != writer]
    reader, other = (readers[(place // len(writers) + i) % len(readers)] for i in range(2))
    stored = [rows[writer][(place + i) % len(rows[writer])] for i in range(kept + 1)]
    if kept > 2:
        # the same key with another value
        stored[1] = _with_first_of(stored[0], stored[1])
    calls = [(writer, given) for given in stored[:-1]]
    calls += [(reader, _like(stored[0], rows[reader])), (writer, stored[-1])]
    calls += [(other, _like(stored[1], rows[other])), (reader, _like(stored[0], rows[reader]))]
    calls += [(other, _like(stored[-1], rows[other]))]
    return [object_steps.call(name, given) for name, given in calls]


def _like(given: Arguments, rows: Sequence[Arguments]) -> Arguments:
    """Return the arguments that begin like those of another method's call, such as with a key; else the first ones."""
    return next((row for row in rows if repr(row.positional[:1]) == repr(given.positional[:1])), rows[0])


def _drawn(rows: Sequence[Arguments], draw: random.Random) -> Arguments:
    """Return arguments of which the first one, such as a key, and the others may come from different rows."""
    return _with_first_of(draw.choice(rows), draw.choice(rows))


def _with_first_of(key: Arguments, others: Arguments) -> Arguments:
    """Return arguments of which the first one, if there are several, is that of another call."""
    if min(len(key.positional), len(others.positional)) < 2:
        return others
    return Arguments((key.positional[0], *others.positional[1:]), others.by_name)


def reading_steps(target: TargetClass) -> list[Step]:
    """Return the steps that read an object's state."""
    steps = [object_steps.attribute(name) for name in target.attributes]
    views = dict.fromkeys(target.views)
    if target.kind == "exception":
        views |= {"str": None}
        steps += [object_steps.attribute("args")] if "args" not in target.attributes else []
    steps += [object_steps.view(name) for name in views]
    if target.kind in ("class", "exception"):
        steps += [object_steps.check(name) for name in target.ancestors]
    return steps


def _comparisons(target: TargetClass, constructors: Sequence[Arguments], place: int) -> list[Step]:
    """Return the applications of operators to the object and another one, or one that was made in the same way."""
    alike = f"{target.name}({constructors[_place(target, constructors, place)].text})"
    other = f"{target.name}({constructors[(place + 1) % len(constructors)].text})"
    steps = []
    for written in target.operators:
        if written == "it is other" or written.startswith("{"):
            steps.append(object_steps.operator(written, alike))
        else:
            steps.append(object_steps.operator(written, other))
    if "it == other" in target.operators and place % 3 != 2:
        steps.append(object_steps.operator("it == other", alike))
    return steps


def _place(target: TargetClass, constructors: Sequence[Arguments], place: int) -> int:
    """Return the place of the constructor's arguments for a sequence: mostly a few usual ones, if there are methods."""
    if not target.methods:
        return place % len(constructors)
    if place % _EDGES == _EDGES - 1:
        return len(constructors) - 1 - place // _EDGES % len(constructors)
    return place % min(_FEW_CONSTRUCTORS, len(constructors))


def _makers(target: TargetClass, constructors: Sequence[Arguments], count: int, own: OwnTypes | None) -> list[str]:
    """Return the source of what makes the object of each sequence: a member, a constructor call, or another maker."""
    if target.members:
        return [f"{target.name}.{target.members[place % len(target.members)]}" for place in range(count)]
    if target.kind == "metaclass":
        return [f"{target.name}({name!r}, (), {{'size': 1}})" for name in ("Alpha", "Beta")]
    if target.kind == "base":
        return [f"type({name!r}, ({target.name},), {{}})" for name in ("Alpha", "BetaPart")]
    factories = [
        f"{target.name}.{factory.name}({row.text})"
        for factory in target.factories
        for row in _rows(factory.parameters, count, own, factory.optional)
    ]
    made = []
    for place in range(count):
        if factories and place % 3 == 2:
            made.append(factories[place // 3 * max(len(factories) * 3 // count, 1) % len(factories)])
        else:
            made.append(f"{target.name}({constructors[_place(target, constructors, place)].text})")
    return made


def _on_decorators(target: TargetClass, count: int, own: OwnTypes | None) -> list[ObjectSequence]:
    """Return calls of decorated functions, with the number of calls that reach the function."""
    given = [f"({row.text})" for row in _rows(target.constructor, count, own, target.optional)]
    if not target.constructor and not target.optional:
        given = [""]
    given = given[:_FEW_DECORATORS]
    sequences = []
    for place in range(min(count, len(_DECORATED_CALLS) * len(given))):
        decorator, kind = target.name + given[place % len(given)], place // len(given)
        calls, failures = _DECORATED_CALLS[kind], _FAILURES[kind]
        steps = [object_steps.call("__call__", Arguments(arguments)) for arguments in calls]
        steps.append(Step("it.calls", "how often the function ran"))
        steps += [Step(f"it.function.{name}", name) for name in target.attributes]
        failing = f" that fails {failures} times" if failures else ""
        sequences.append(
            ObjectSequence(
                f"_NadDecorated({decorator}, {failures})", tuple(steps), f"@{decorator} on a function{failing}"
            )
        )
    return sequences


def _on_context_functions(target: TargetClass, count: int, own: OwnTypes | None) -> list[ObjectSequence]:
    """Return `with` statements, each with a new context manager, whose output counts."""
    rows = _rows(target.constructor, count, own, target.optional)
    sequences = []
    for place in range(count):
        error = ("", "ValueError('x')", "KeyError('x')")[place % 3]
        maker = f"{target.name}({rows[place // 3 % len(rows)].text})"
        function, statement = ("_nad_with", "with") if "with" in target.contexts else ("_nad_async_with", "async with")
        raised = f", {error}" if error else ""
        code = f"_nad_printed(lambda: {function}({maker}, lambda it: print('...'){raised}))"
        text = f"{statement} {maker}: print('...')" + (f"; raise {error}" if error else "")
        sequences.append(ObjectSequence("None", (Step(code, text),)))
    return sequences


def _on_descriptors(target: TargetClass, count: int, own: OwnTypes | None) -> list[ObjectSequence]:
    """Return assignments to an attribute that a descriptor manages, or readings of one that it computes."""
    if any(is_function(one) for one in target.constructor):
        reading = (object_steps.attribute("value"),) * 2
        computing = (
            *reading,
            Step("it.computed", "how often it was computed"),
            Step("setattr(it, 'value', 5)", "value = 5"),
        )
        return [ObjectSequence(f"_nad_computing({target.name})", computing, f"@{target.name} on a method value")]
    constructors = _rows(target.constructor, count, own, target.optional)
    values: tuple[object, ...] = (5, 0, -3, 2.5, "abc", "", None, 100, [1], True)
    sequences = []
    for place in range(min(count, 8)):
        maker = f"{target.name}({constructors[place % len(constructors)].text})"
        given = [values[(place * 3 + i) % len(values)] for i in range(_CALLS)]
        steps = [object_steps.attribute("value")]
        for value in given:
            steps += [object_steps.setter("value", Arguments((value,))), object_steps.attribute("value")]
        sequences.append(ObjectSequence(f"_nad_owner({maker})", tuple(steps), f"value = {maker} in a class"))
    return sequences


def _rows(parameters: Signature, count: int, own: OwnTypes | None, optional: Signature = ()) -> list[Arguments]:
    """Return arguments of a call, beginning with the most usual ones."""
    made = generate_calls(parameters, count, optional=optional, own=own)
    return sorted(made, key=lambda given: not given.usual)
