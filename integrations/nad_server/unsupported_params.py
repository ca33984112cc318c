"""Parameters that this server knows and has not: refused where they ask for something, never ignored.

Labels and hints (`user`, `metadata`, `prompt_cache_key`, `request_id`, `cache_salt` ...) change no answer and pass, as
does what nobody knows: clients send fields of their own.
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
"""With the values that ask for nothing; null is always one. A parameter within another is written with a point."""

_FIELDS = {name for kind in (ChatRequest, CompletionRequest, ResponsesRequest) for name in kind.model_fields}
_LABELS = {"metadata"}


def refuse_unsupported(request: ExtraFieldsModel, where: str = "") -> None:
    """Refuse what would otherwise be left undone without a word.

    Args:
        request: the body, or a part of it.
        where: what its parameters' names begin with.

    Raises:
        APIError: names the parameter.
    """
    for name, value in (request.model_extra or {}).items():
        param = where + name
        if value is None:
            continue
        if param in _NEUTRAL:
            if value not in _NEUTRAL[param]:
                raise _refused(param, "is not supported by this server")
        elif param in _FIELDS - _LABELS and value:
            raise _refused(param, "is a parameter of another endpoint, and not of this one")
    for name in type(request).model_fields:
        part = getattr(request, name)
        if isinstance(part, ExtraFieldsModel):
            refuse_unsupported(part, f"{where}{name}.")


def _refused(param: str, reason: str) -> APIError:
    return APIError(400, f"{param} {reason}; leave it out", code="unsupported_parameter", param=param)
