"""Random models of every supported family, and tokenizers, shared by tests that leave them as they are."""

from functools import cache
from os import PathLike

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nad_agents import testing

EOS = 0
D_FF = 48
N_LAYERS = 3
JSON_WORDS = ['{"', '": ', '": "', '", "', '"}', "}}", "name", "arguments", "true", "false"]

FAMILIES: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 16},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16},
    "olmo2": {},
    "smollm3": {},
    "phi3": {},
    "gpt2": {"n_inner": D_FF},
    "gpt_neox": {},
    "opt": {"ffn_dim": D_FF, "word_embed_proj_dim": 32},
    "falcon": {"ffn_hidden_size": D_FF},
    "starcoder2": {},
}


def make_model(family: str, seed: int = 0, **options: object) -> PreTrainedModel:
    """The model of `nad_agents.testing.tiny_model`, with what the family needs to have D_FF neurons per layer."""
    # positions that a family learns are part of the random stream that the weights come from
    options = {"max_position_embeddings": 512, **FAMILIES.get(family, {}), **options}
    return testing.tiny_model(family, seed=seed, tokenizer=byte_tokenizer(), **options).model


@cache
def tiny_model(family: str = "llama", **options: object) -> PreTrainedModel:
    """The same, shared by tests that leave it as it is."""
    return make_model(family, **options)


def save_model(model: PreTrainedModel, folder: str | PathLike[str]) -> None:
    """Write a model and its tokenizer to a folder, as transformers reads them."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)


@cache
def byte_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """That of `nad_agents.testing`, shared; grammars are compiled once for it."""
    return testing.byte_tokenizer() if chat else testing.byte_tokenizer(chat_template=None)


@cache
def json_tokenizer() -> PreTrainedTokenizerFast:
    """The same with tokens for what calls and objects consist of, as the vocabularies of real models have them."""
    tokenizer = testing.byte_tokenizer()
    tokenizer.add_tokens(JSON_WORDS)
    return tokenizer
