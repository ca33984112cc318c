"""A tokenizer with one token per byte, and a random model of a few thousand weights, both made in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from nad_agents.models import LoadedModel

__all__ = ["CHAT_TEMPLATE", "byte_tokenizer", "tiny_model"]

CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)

_CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def byte_tokenizer(*, chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per byte; token 0 ends a sequence.

    Args:
        chat_template: Jinja template of the conversation; None makes the tokenizer of a base model.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, **{char: i + 1 for i, char in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # transformers leaves the constructor untyped
    make = cast("type[Any]", PreTrainedTokenizerFast)
    fast: PreTrainedTokenizerFast = make(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")
    fast.chat_template = chat_template
    return fast


def tiny_model(
    architecture: str = "llama",
    *,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **config: Any,
) -> LoadedModel:
    """Make a random float32 model that runs on the CPU, ready for `NeuronAgreementDecoder`.

    Its answers make no sense, and everything else is real: prefill, sampling, recorded neurons, selection.

    Args:
        architecture: A model type of transformers, such as "llama", "qwen3" or "gpt2".
        seed: Seed of the weights.
        tokenizer: The tokenizer; None makes a `byte_tokenizer`.
        **config: Parameters of the architecture's config, such as `num_hidden_layers=1`.
    """
    # torch takes seconds to import, and a scripted decoder needs none
    import torch
    from transformers import AutoConfig

    from nad_agents.models import LoadedModel
    from nad_agents.models.model_checks import model_factory

    tokenizer = tokenizer or byte_tokenizer()
    end = tokenizer.eos_token_id
    special = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": end, "vocab_size": len(tokenizer)}
    known = AutoConfig.for_model(architecture, **special)
    small = {name: value for name, value in _CONFIG.items() if hasattr(known, name)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AutoConfig.for_model(architecture, **{**special, **small, **config})
        model: Any = model_factory(made).from_config(made, dtype=torch.float32)
        # spreads the logits, so that the candidates differ
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(3)
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = end
    return LoadedModel(model.eval().requires_grad_(False), tokenizer, f"tiny-{architecture}", "folder", Path())
