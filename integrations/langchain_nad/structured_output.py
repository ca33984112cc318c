"""`structured_output`: a chain whose answers fit a schema, since the grammar allows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_nad.output_parsers import WholeJson, WholeModel, WholeToolArguments, WholeToolModel
from langchain_nad.tools import openai_tools, recursive_type_schema, whole_class_schema, whole_schema
from nad_agents.exceptions import ConfigurationError

__all__ = ["BindableModel", "StructuredMethod", "structured_output"]

StructuredMethod = Literal["json_schema", "function_calling", "json_mode"]
"""How the model is told the schema: in the system message, as a tool, or not at all. The grammar enforces it always."""


class BindableModel(Protocol):
    """The part of a chat model that `structured_output` needs."""

    def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with arguments that hold for every call."""
        ...


def structured_output(
    chat: BindableModel,
    schema: dict[str, Any] | type,
    *,
    method: StructuredMethod,
    include_raw: bool,
    strict: bool | None,
    options: dict[str, Any],
) -> Runnable[Any, Any]:
    """Return a chain of a chat model and the parser for a schema.

    Args:
        chat: The model.
        schema: A pydantic class (v1 or v2), a TypedDict, a JSON schema, or a tool in OpenAI's form.
        method: How the model is told the schema.
        include_raw: Whether the chain gives ``raw``, ``parsed`` and ``parsing_error`` instead of the object.
        strict: Passed on with the schema; every schema is enforced.
        options: Further arguments of each call.

    Raises:
        ConfigurationError: The schema is none, or the method is unknown.
    """
    if method not in get_args(StructuredMethod):
        msg = f"method={method!r} is unknown; choose one of {', '.join(get_args(StructuredMethod))}"
        raise ConfigurationError(msg)
    # langchain-core can neither convert nor trace a TypedDict that refers to itself
    schema = recursive_type_schema(schema) or schema
    model: Any = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
    traced = {"ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}}
    bound: Runnable[Any, Any]
    parser: Any
    try:
        if method == "function_calling":
            tools = openai_tools([schema], strict=strict)
            name = tools[0]["function"]["name"]
            bound = chat.bind(tools=tools, tool_choice=name, strict=strict, **traced, **options)
            parser = (
                WholeToolModel(tools=[model], first_tool_only=True)
                if model is not None
                else WholeToolArguments(key_name=name, first_tool_only=True)
            )
        else:
            bound = chat.bind(response_format=_response_format(schema, method, strict), **traced, **options)
            parser = WholeModel(pydantic_object=model) if model is not None else WholeJson()
    except (TypeError, ValueError) as error:
        msg = f"{schema!r} is no schema: {error}; give a pydantic class, a TypedDict or a JSON schema with a title"
        raise ConfigurationError(msg) from error
    if not include_raw:
        chain: Runnable[Any, Any] = bound | parser
        return chain
    # the raw message streams while it is written; the object and the error come at the end
    return RunnableMap(raw=bound) | RunnablePassthrough.assign(
        parsed=lambda outputs: _parse(parser, outputs["raw"])[0],
        parsing_error=lambda outputs: _parse(parser, outputs["raw"])[1],
    )


def _parse(parser: Runnable[Any, Any], message: AIMessage) -> tuple[Any, Exception | None]:
    """Return the object, or why there is none."""
    try:
        return parser.invoke(message), None
    except Exception as error:  # noqa: BLE001 - a validator of the caller's class may raise anything
        return None, error


def _response_format(schema: dict[str, Any] | type, method: StructuredMethod, strict: bool | None) -> dict[str, Any]:
    converted = convert_to_json_schema(schema)
    whole = whole_schema(schema) if isinstance(schema, Mapping) else whole_class_schema(schema)
    if whole is not None:
        described: dict[str, Any] = {name: converted[name] for name in ("title", "description") if name in converted}
        converted = {**whole, **described}
    if method == "json_mode":
        # the user's own words tell the model what to write
        return {"type": "json_object", "schema": converted}
    name = converted.get("title", "answer")
    return {"type": "json_schema", "json_schema": {"name": name, "schema": converted, "strict": strict}}
