"""Values of types that the candidates' programs define: objects, chains and trees of them, members, dictionaries."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence

from nad_sandbox.behaviour.class_definition import ClassDefinition, class_definitions
from nad_sandbox.behaviour.class_fields import last_name
from nad_sandbox.behaviour.signature import Parameter
from nad_sandbox.checks.guarded_parse import parse_program, unparse

__all__ = ["own_types"]

_MOST = 8
_NUMBERS = (3, 1, 2, 1, 5)
_TEXTS = ("ab", "a", "aba", "Hello World")
"""Texts that methods are called with too, so that they find the objects."""


def own_types(programs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return source texts of values of the types that most programs define, by the name of the type.

    A parameter whose name is such a type's in lower case, or that of a node such as `head` or `root`, takes them too.

    Args:
        programs: Source texts of the programs; those that do not parse are ignored.
    """
    trees = [tree for program in programs if (tree := parse_program(program)) is not None]
    found: dict[str, list[tuple[str, ...]]] = {}
    for tree in trees:
        if any(isinstance(node, ast.ClassDef) for node in tree.body):
            for name, texts in _of_program(tree.body).items():
                found.setdefault(name, []).append(texts)
    made = {name: Counter(texts).most_common(1)[0][0] for name, texts in found.items() if 2 * len(texts) > len(trees)}
    for name, texts in list(made.items()):
        made.setdefault(name.lower(), texts)
        if any("next=" in text for text in texts):
            made |= dict.fromkeys(("head", "l1", "l2", "list1", "list2", "node"), (*texts, "None"))
        elif any("left=" in text for text in texts):
            made |= dict.fromkeys(("root", "tree", "node", "p", "q"), (*texts, "None"))
    return made


def _of_program(body: Sequence[ast.stmt]) -> dict[str, tuple[str, ...]]:
    """Return values of the types that a program defines."""
    classes = class_definitions(body)
    made: dict[str, tuple[str, ...]] = {}
    for node in body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {last_name(base) for base in node.bases}
        if "TypedDict" in bases:
            made[node.name] = tuple(_dictionary(node, place) for place in range(4))
        elif "Protocol" in bases or (node.name in classes and classes[node.name].abstract):
            made[node.name] = tuple(_stand_in(node, place) for place in range(3))
        elif node.name in classes and classes[node.name].kind == "class":
            texts = _objects(node.name, classes[node.name])
            if texts:
                made[node.name] = texts
    for name, definition in classes.items():
        for ancestor in definition.ancestors & made.keys():
            # objects of derived classes are better than a stand-in for their base
            if name in made and "SimpleNamespace(" in made[ancestor][0]:
                made[ancestor] = made[name]
            elif name in made and name != ancestor and made[ancestor] != made[name]:
                made[ancestor] = (*made[ancestor], *made[name])[:_MOST]
    return made


def _value(name: str, annotation: str | None, place: int) -> str:
    """Return the source of a plain value for a field."""
    kind = (annotation or "").partition("[")[0].strip("'\"").lower()
    number = _NUMBERS[place % len(_NUMBERS)]
    texts = {
        "str": repr(_TEXTS[place % len(_TEXTS)]),
        "float": repr(number + 0.5),
        "bool": repr(place % 2 == 0),
        "list": repr([number, 2]),
        "dict": repr({"a": number}),
        "set": f"{{{number}}}",
        "tuple": repr((number, 2)),
        "optional": "None",
    }
    is_text = kind == "" and any(part in name.lower() for part in ("name", "title", "text", "owner", "label", "author"))
    return texts["str"] if is_text else texts.get(kind, repr(number))


def _dictionary(node: ast.ClassDef, place: int) -> str:
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    pairs = [
        f"{item.target.id!r}: {_value(item.target.id, unparse(item.annotation), place + shift)}"
        for shift, item in enumerate(fields)
        if isinstance(item.target, ast.Name)
    ]
    return f"{{{', '.join(pairs)}}}"


def _stand_in(node: ast.ClassDef, place: int) -> str:
    """Return an object with the methods and attributes of a protocol, whose methods give constants."""
    parts = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name[0] != "_":
            result = _value(item.name, unparse(item.returns) if item.returns else None, place)
            is_property = any(last_name(decorator) == "property" for decorator in item.decorator_list)
            parts.append(f"{item.name}={result}" if is_property else f"{item.name}=lambda *args: {result}")
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            parts.append(f"{item.target.id}={_value(item.target.id, unparse(item.annotation), place)}")
    return f"SimpleNamespace({', '.join(parts)})"


def _objects(name: str, definition: ClassDefinition) -> tuple[str, ...]:
    """Return objects of a class: members, chains if it has a link to another object, or constructor calls."""
    if definition.members:
        return tuple(f"{name}.{member}" for member in definition.members)
    if definition.enumeration or any(parameter.variadic for parameter in definition.constructor):
        return ()
    links = [one for one in ("next", "left", "right") if _links(definition, one)]
    values = [one for one in definition.constructor if one.name not in links and not one.optional]
    first = next((one for one in definition.constructor if one.name not in links), None)
    # the value of a node often has a default
    values = values or ([first] if links and first is not None else [])
    given = [_made(name, values, place) for place in range(len(_NUMBERS))]
    if links == ["next"]:
        chains = [given[0]]
        for text in (given[1], given[2], given[3]):
            chains.append(_with(definition, text, {"next": chains[-1]}))
        return tuple(chains)
    if "left" in links and "right" in links:
        return (
            given[0],
            _with(definition, given[0], {"left": given[1]}),
            _with(definition, given[1], {"left": given[2], "right": given[4]}),
            _with(definition, given[0], {"left": _with(definition, given[1], {"right": given[2]}), "right": given[4]}),
        )
    return tuple(dict.fromkeys(given))[:4]


def _links(definition: ClassDefinition, name: str) -> bool:
    parameters = {parameter.name for parameter in definition.constructor}
    return name in parameters or name in definition.attributes


def _made(name: str, values: Sequence[Parameter], place: int) -> str:
    texts = [
        f"{one.name}={text}" if one.keyword_only and not one.optional else text
        for shift, one in enumerate(values)
        for text in [_value(one.name, one.annotation, place + shift)]
    ]
    return f"{name}({', '.join(texts)})"


def _with(definition: ClassDefinition, made: str, links: Mapping[str, str]) -> str:
    """Return the source of a node that is linked to others, by arguments of its constructor or by its attributes."""
    parameters = {parameter.name for parameter in definition.constructor}
    given = ", ".join(f"{name}={text}" for name, text in links.items())
    return f"{made[:-1]}, {given})" if links.keys() <= parameters else f"with_attributes({made}, {given})"
