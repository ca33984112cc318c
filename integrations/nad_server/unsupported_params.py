"""Parameters of other servers that this one does not support: refused where they would change the answer.

Hints, and values that ask for nothing, are ignored, and the response lists them under `nad.ignored`. Labels (`user`,
`metadata`, `prompt_cache_key`, `request_id`, `cache_salt` ...) are accepted, as are unknown parameters: clients send
fields of their own.
"""

from __future__ import annotations

from typing import Any

from nad_server.errors import APIError
from nad_server.protocol import ChatRequest, CompletionRequest, ExtraFieldsModel
from nad_server.protocol_responses import ResponsesRequest

__all__ = ["ignored_parameters"]

_OPENAI: dict[str, tuple[Any, ...]] = {
    "access_programs": ({},),
    "audio": (),
    "background": (False,),
    "background_options": ({},),
    "context_management": ([],),
    "conversation": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "image": ({},),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": ({},),
    "presence_penalty": (0,),
    "previous_response_id": (),
    "top_logprobs": (0,),
    "web_search_options": (),
}
_LOCAL_SERVERS: dict[str, tuple[Any, ...]] = {
    # vLLM and SGLang
    "add_generation_prompt": (True,),
    "add_special_tokens": (),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "chat_template": (),
    "continue_final_message": (False,),
    "custom_logit_processor": (),
    "documents": ([],),
    "ebnf": ("",),
    "guided_choice": ([],),
    "guided_decoding_backend": (),
    "guided_grammar": ("",),
    "guided_json": ({}, ""),
    "guided_regex": ("",),
    "guided_whitespace_pattern": ("",),
    "ignore_eos": (False,),
    "include_reasoning": (True, False),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "logprob_token_ids": ([],),
    "lora_path": (),
    "min_new_tokens": (0,),
    "min_tokens": (0,),
    "no_stop_trim": (False,),
    "prompt_logprobs": (),
    "regex": ("",),
    "repetition_detection": (),
    "return_hidden_states": (False,),
    "return_prompt_text": (False,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_regex": ([],),
    "stop_token_ids": ([],),
    "stream_options.continuous_usage_stats": (False,),
    "structural_tag": (),
    "structured_outputs": ({},),
    "thinking_token_budget": (-1, 0),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    # llama.cpp
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "grammar": ("",),
    "json_schema": (),
    "lora": ([],),
    "mirostat": (0,),
    "n_keep": (0,),
    "n_predict": (-1,),
    "n_probs": (0,),
    "repeat_penalty": (1,),
    "samplers": ([],),
    "t_max_predict_ms": (-1, 0),
    "tfs_z": (1,),
    "typical_p": (0, 1),
    "xtc_probability": (0,),
    # transformers, Ollama, and services of thinking models
    "do_sample": (True,),
    "max_length": (-1,),
    "max_new_tokens": (-1,),
    "num_beams": (1,),
    "num_predict": (-1,),
    "options": ({},),
    "reasoning_budget": (-1, 0),
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "thinking_budget": (-1, 0),
}
_NEUTRAL = _OPENAI | _LOCAL_SERVERS
"""The parameters with their neutral values, which change nothing, as null does everywhere.

A parameter of a nested object is written with a dot.
"""

_HINTS = {
    "max_tool_calls",
    "num_ctx",
    "prediction",
    "priority",
    "reasoning",
    "reasoning_effort",
    "service_tier",
    "store",
    "stream_options.include_obfuscation",
    "text.verbosity",
    "truncation",
    "verbosity",
}
"""Parameters that a server may follow or not: they ask for speed, for keeping the answer, for more or fewer words.

`max_tool_calls` counts calls that OpenAI's servers make themselves.
"""

_FOREIGN_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "text": ({"format": {"type": "text"}},),
    "thinking": ({"type": "disabled"},),
    "tool_choice": ("auto", "none"),
}
"""The neutral values of parameters at endpoints that do not have them; empty and false values are neutral too."""

_PARAMETERS = {name for kind in (ChatRequest, CompletionRequest, ResponsesRequest) for name in kind.model_fields}
_LABELS = {"metadata"}


def ignored_parameters(body: ExtraFieldsModel, where: str = "") -> list[str]:
    """Return the parameters of a request that are ignored because they ask for nothing or are hints.

    Args:
        body: The body, or an object nested in it.
        where: The prefix of the names of the object's parameters.

    Raises:
        APIError: A parameter asks for something that this server does not do; the error names it.
    """
    ignored = []
    for name, value in (body.model_extra or {}).items():
        param = where + name
        if value is None or not (param in _HINTS or param in _NEUTRAL or param in _PARAMETERS - _LABELS):
            continue
        if param in _NEUTRAL and value not in _NEUTRAL[param]:
            raise _refused(param, "is not supported by this server")
        foreign = param not in _HINTS and param not in _NEUTRAL
        if foreign and value and value not in _FOREIGN_NEUTRAL.get(param, ()):
            raise _refused(param, "is a parameter of another endpoint, and not of this one")
        ignored.append(param)
    for name in type(body).model_fields:
        nested = getattr(body, name)
        if isinstance(nested, ExtraFieldsModel):
            ignored += ignored_parameters(nested, f"{where}{name}.")
    return ignored


def _refused(param: str, reason: str) -> APIError:
    return APIError(400, f"{param} {reason}; leave it out", code="unsupported_parameter", param=param)
