"""Parameters of other servers that this one does not support: refused where they change the answer, never ignored.

Labels and hints (`user`, `metadata`, `prompt_cache_key`, `request_id`, `cache_salt` ...) change no answer and are
accepted, as are unknown parameters: clients send fields of their own.
"""

from __future__ import annotations

from typing import Any

from nad_server.errors import APIError
from nad_server.protocol import ChatRequest, CompletionRequest, ExtraFieldsModel
from nad_server.protocol_responses import ResponsesRequest

__all__ = ["refuse_unsupported"]

_OPENAI: dict[str, tuple[Any, ...]] = {
    "access_programs": ({},),
    "audio": (),
    "background": (False,),
    "background_options": ({},),
    "context_management": ([],),
    "conversation": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "image": ({},),
    "logit_bias": ({},),
    "max_tool_calls": (),
    "modalities": (["text"],),
    "moderation": ({},),
    "prediction": (),
    "presence_penalty": (0,),
    "previous_response_id": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "stream_options.include_obfuscation": (False,),
    "text.verbosity": ("medium",),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
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
    "ebnf": (),
    "guided_choice": ([],),
    "guided_decoding_backend": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_whitespace_pattern": (),
    "ignore_eos": (False,),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "logprob_token_ids": ([],),
    "lora_path": (),
    "min_new_tokens": (0,),
    "min_tokens": (0,),
    "no_stop_trim": (False,),
    "priority": (0,),
    "prompt_logprobs": (),
    "regex": (),
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
    "thinking_token_budget": (),
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
    "n_predict": (),
    "n_probs": (0,),
    "repeat_penalty": (1,),
    "samplers": ([],),
    "t_max_predict_ms": (0,),
    "tfs_z": (1,),
    "typical_p": (1,),
    "xtc_probability": (0,),
    # transformers, Ollama, and services of thinking models
    "do_sample": (True,),
    "max_length": (),
    "max_new_tokens": (),
    "num_beams": (1,),
    "num_ctx": (),
    "num_predict": (),
    "options": ({},),
    "reasoning_budget": (-1,),
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "think": (),
    "thinking": (),
    "thinking_budget": (),
}
_NEUTRAL = _OPENAI | _LOCAL_SERVERS
"""The parameters with their neutral values, which change nothing, as null does everywhere.

A parameter of a nested object is written with a dot.
"""

_PARAMETERS = {name for kind in (ChatRequest, CompletionRequest, ResponsesRequest) for name in kind.model_fields}
_LABELS = {"metadata"}


def refuse_unsupported(body: ExtraFieldsModel, where: str = "") -> None:
    """Refuse a request with a parameter that asks for something and would be ignored.

    Args:
        body: The body, or an object nested in it.
        where: The prefix of the names of the object's parameters.

    Raises:
        APIError: The request has such a parameter; the error names it.
    """
    for name, value in (body.model_extra or {}).items():
        param = where + name
        if value is None:
            continue
        if param in _NEUTRAL:
            if value not in _NEUTRAL[param]:
                raise _refused(param, "is not supported by this server")
        elif param in _PARAMETERS - _LABELS and value:
            raise _refused(param, "is a parameter of another endpoint, and not of this one")
    for name in type(body).model_fields:
        nested = getattr(body, name)
        if isinstance(nested, ExtraFieldsModel):
            refuse_unsupported(nested, f"{where}{name}.")


def _refused(param: str, reason: str) -> APIError:
    return APIError(400, f"{param} {reason}; leave it out", code="unsupported_parameter", param=param)
