"""The fields of a class that a decorator or a base class gives a constructor: dataclasses, attrs, pydantic, tuples."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nad_sandbox.behaviour.signature import Parameter, Signature
from nad_sandbox.checks.guarded_parse import unparse

__all__ = ["ClassFields", "class_fields", "last_name"]

_DECORATORS = {"dataclass", "define", "frozen", "mutable", "attrs", "s", "attributes", "dataclass_transform"}
"""Names of decorators, without their module, that make a constructor from the class's fields."""
_MODELS = {"BaseModel", "SQLModel", "BaseSettings", "Struct"}
"""Names of base classes that do; their constructors take arguments by name."""
_FIELDS = {"field", "ib", "attrib", "Field", "PrivateAttr"}
"""Names of functions that describe a field."""
_DEFAULTS = {"default", "default_factory", "factory"}


@dataclass(frozen=True)
class ClassFields:
    """The fields of a class.

    Attributes:
        parameters: The constructor's parameters.
        attributes: The public attributes of the objects.
        frozen: Whether the objects cannot be changed.
        ordered: Whether the objects can be compared by size.
    """

    parameters: Signature
    attributes: frozenset[str]
    frozen: bool = False
    ordered: bool = False


def last_name(node: ast.expr) -> str:
    """Return the name of a base or decorator without its module, its arguments and its type parameters."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return (unparse(node) or "").rpartition(".")[2]


def class_fields(node: ast.ClassDef, bases: list[str], inherits_fields: bool) -> ClassFields | None:
    """Return the fields of a class; None if its constructor is not made from fields.

    Args:
        node: The class.
        bases: Names of its bases.
        inherits_fields: Whether a base class is of that kind.
    """
    decorators = {last_name(decorator): unparse(decorator) or "" for decorator in node.decorator_list}
    decorated = bool(_DECORATORS & decorators.keys())
    model = bool(_MODELS & set(bases)) or (inherits_fields and not decorated)
    if not (model or "NamedTuple" in bases or decorated):
        return None
    options = " ".join([*(unparse(keyword) or "" for keyword in node.keywords), *decorators.values()])
    options += " ".join(unparse(item) or "" for item in node.body if _is_config(item))
    by_name = model or "kw_only=True" in options
    annotated = not ({"s", "attrs", "attributes"} & decorators.keys()) or "auto_attribs=True" in options
    parameters, attributes = [], set()
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and last_name(item.annotation) == "KW_ONLY":
            by_name = True
            continue
        target = item.target if isinstance(item, ast.AnnAssign) else _assigned_field(item)
        if not isinstance(target, ast.Name) or target.id == "model_config":
            continue
        value = item.value if isinstance(item, ast.AnnAssign | ast.Assign) else None
        undescribed = isinstance(item, ast.AnnAssign) and not (annotated or _is_described(value))
        if undescribed or (isinstance(item, ast.AnnAssign) and last_name(item.annotation) == "ClassVar"):
            continue
        is_init_only = isinstance(item, ast.AnnAssign) and last_name(item.annotation) == "InitVar"
        if not is_init_only and target.id[0] != "_":
            attributes.add(target.id)
        parameter = _parameter(target.id, item, by_name)
        if parameter is not None and not (model and target.id[0] == "_"):
            parameters.append(parameter)
    return ClassFields(
        tuple(sorted(parameters, key=lambda parameter: parameter.optional)),
        frozenset(attributes),
        frozen="frozen" in decorators or "frozen=True" in options or "NamedTuple" in bases,
        ordered="order=True" in options or "NamedTuple" in bases or "cmp=True" in options,
    )


def _is_config(item: ast.stmt) -> bool:
    """Return whether a statement sets the options of a pydantic model."""
    return (
        isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name) and item.targets[0].id == "model_config"
    )


def _assigned_field(item: ast.stmt) -> ast.expr | None:
    """Return the name to which a statement without a type hint assigns the description of a field."""
    return item.targets[0] if isinstance(item, ast.Assign) and _is_described(item.value) else None


def _is_described(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and last_name(value) in _FIELDS


def _parameter(name: str, item: ast.stmt, by_name: bool) -> Parameter | None:
    """Return the constructor's parameter for a field; None if the constructor does not take the field."""
    annotation = unparse(item.annotation) if isinstance(item, ast.AnnAssign) else None
    value = item.value if isinstance(item, ast.AnnAssign | ast.Assign) else None
    options: Mapping[str | None, ast.expr] = {}
    optional = value is not None
    if isinstance(value, ast.Call) and _is_described(value):
        options = {keyword.arg: keyword.value for keyword in value.keywords}
        if "init" in options and unparse(options["init"]) == "False":
            return None
        first = [
            argument for argument in value.args if not (isinstance(argument, ast.Constant) and argument.value is ...)
        ]
        # attrs and pydantic take the default value as the first argument
        optional = bool(options.keys() & _DEFAULTS or first)
        annotation = annotation or (unparse(options["type"]) if "type" in options else _converted(options))
        by_name = by_name or ("kw_only" in options and unparse(options["kw_only"]) == "True")
    if annotation and annotation.startswith(("InitVar[", "dataclasses.InitVar[")):
        annotation = annotation.partition("[")[2].rstrip("]")
    made = Parameter(name.lstrip("_") if "ib" in (unparse(item) or "") and options else name, annotation, by_name)
    return replace(made, keyword_only=True, optional=True) if optional else made


def _converted(options: Mapping[str | None, ast.expr]) -> str | None:
    """Return the type to which an attrs field converts its value, or of which it has to be."""
    for name in ("converter", "validator"):
        text = (unparse(options[name]) or "") if name in options else ""
        kind = text.rpartition("(")[2].rstrip(")") if "instance_of(" in text else text
        if kind in ("int", "float", "str", "bool", "list", "dict"):
            return kind
    return None
