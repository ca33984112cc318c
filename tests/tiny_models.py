"""Tiny random models of every supported family, and a byte-level tokenizer, made in memory."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

EOS = 0
VOCABULARY = 257
JSON_WORDS = ['{"', '": ', '": "', '", "', '"}', "}}", "name", "arguments", "true", "false"]
D_FF = 48
N_LAYERS = 3

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
    "max_position_embeddings": 512,
}
_GROUPED = {"intermediate_size": D_FF, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, object]] = {
    "llama": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "mistral": _GROUPED,
    "gemma": {**_GROUPED, "head_dim": 8},
    "gemma2": {**_GROUPED, "head_dim": 8, "sliding_window": 16},
    "gemma3_text": {**_GROUPED, "head_dim": 8, "sliding_window": 16},
    "olmo2": _GROUPED,
    "smollm3": _GROUPED,
    "phi3": _GROUPED,
    "gpt2": {"n_inner": D_FF},
    "gpt_neox": {"intermediate_size": D_FF},
    "opt": {"ffn_dim": D_FF, "word_embed_proj_dim": 32},
    "falcon": {"ffn_hidden_size": D_FF},
    "starcoder2": _GROUPED,
}
KINDS = {
    "phi3": "fused",
    "gpt2": "plain",
    "gpt_neox": "plain",
    "opt": "plain",
    "falcon": "plain",
    "starcoder2": "plain",
}


def make_model(family: str, seed: int = 0, **options: object) -> PreTrainedModel:
    """A random model of a family, float32, in eval mode; its logits are spread so that sampling is varied."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = AutoConfig.for_model(family, **{**_COMMON, **FAMILIES.get(family, {}), **options})
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(3)
    model.generation_config.eos_token_id = EOS
    model.generation_config.pad_token_id = EOS
    return model.eval().requires_grad_(False)


@cache
def tiny_model(family: str = "llama", **options: object) -> PreTrainedModel:
    """The same, shared by tests that leave it as it is."""
    return make_model(family, **options)


@cache
def byte_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """One token per byte, 0 the end of sequence; with a chat template unless told otherwise."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": EOS, **{char: i + 1 for i, char in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")
    if chat:
        fast.chat_template = (
            "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
    return fast


@cache
def json_tokenizer() -> PreTrainedTokenizerFast:
    """The same with tokens for what calls and objects consist of, as the vocabularies of real models have them."""
    tokenizer = byte_tokenizer.__wrapped__()
    tokenizer.add_tokens(JSON_WORDS)
    return tokenizer
