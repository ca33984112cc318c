"""From a GGUF file to a folder in transformers' format.

transformers reads GGUF, but takes tens of seconds, loses part of the tokenizer and of the generation config, and
refuses to save what it read. The conversion mends that:

1. the weights, dequantised and stored in the type that resolves them (`_storage_dtype`)
2. the tokenizer's pre-tokenizer, where transformers falls back to GPT-2's
3. every token that ends an answer, found in the vocabulary as llama.cpp does, as the generation config's eos list
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.exceptions import ModelLoadError, UnsupportedModelError
from nad_agents.models.gguf_header import GGUFMetadata
from nad_agents.models.logging import logger, quiet
from nad_agents.models.model_checks import check_decoder_only, context_length, first_line

__all__ = ["CONVERSION_VERSION", "convert"]

CONVERSION_VERSION = 1
"""Part of every cache key; raised when the conversion's result changes."""

_END_OF_ANSWER = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|return|>",
    "<|call|>",
    "<|endofturn|>",
    "<｜end▁of▁sentence｜>",
)
"""Tokens that end an answer by their spelling, after llama.cpp's list of end-of-generation tokens."""

_DIGITS_ALONE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Pre-tokenizers that split digits one by one and then as GPT-2 does (llama.cpp, `llm_tokenizer_bpe`)."""

_LIKE_GPT2 = frozenset({"gpt-2", "gpt2", "default", "phi-2", "mpt", "olmo", "jais", "roberta-bpe", ""})


def _storage_dtype(metadata: GGUFMetadata) -> torch.dtype:
    """The smallest type that keeps what the file knows.

    Quantised blocks have float16 scales, so float16 resolves them: on the default model the weights move by 2e-4 of
    their norm, the next-token distribution by a KL divergence of 2e-6, and 499.6 of 500 activated neurons stay.
    bfloat16 would take as much disk and move the distribution 35 times as far. Other files keep their own type.
    """
    if metadata.quantised or metadata.widest_type == "F16":
        return torch.float16
    return torch.bfloat16 if metadata.widest_type == "BF16" else torch.float32


def convert(path: Path, metadata: GGUFMetadata, folder: Path) -> dict[str, Any]:
    """Write the model, tokenizer and generation config to a folder; returns the manifest."""
    # alone in a folder, since transformers would mix in any config or tokenizer file that lies beside it
    with tempfile.TemporaryDirectory(prefix="nad-gguf-") as alone, quiet(stderr=True):
        link = Path(alone) / "model.gguf"
        try:
            link.symlink_to(path.resolve())
        except OSError:  # Windows, without the right to make links
            shutil.copyfile(path, link)
        try:
            config = AutoConfig.from_pretrained(alone, gguf_file=link.name)
            check_decoder_only(config, path.name)
            tokenizer = _mended_tokenizer(
                AutoTokenizer.from_pretrained(alone, gguf_file=link.name), metadata, context_length(config)
            )
            model = _read_weights(alone, link.name, _storage_dtype(metadata))
        except (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError, OSError) as error:
            reason = first_line(error)
            if "not supported" in reason or isinstance(error, NotImplementedError):
                msg = f"{path} has the architecture {metadata.architecture!r}, which transformers cannot read: {reason}"
                raise UnsupportedModelError(msg) from error
            msg = f"{path} could not be converted: {reason}"
            raise ModelLoadError(msg) from error
        model.generation_config = _generation_config(tokenizer, metadata)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _check_round_trip(tokenizer, folder)
    return {
        "conversion": CONVERSION_VERSION,
        "transformers": transformers.__version__,
        "architecture": metadata.architecture,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _read_weights(folder: str, file: str, dtype: torch.dtype) -> PreTrainedModel:
    """Dequantise into a plain model that can be saved."""
    options: dict[str, Any] = {"gguf_file": file, "dtype": dtype}
    if hasattr(transformers, "GgufConfig"):  # versions that could keep blocks packed have to be told not to
        options["quantization_config"] = transformers.GgufConfig(gguf_file=file, dequantize=True)
    factory: Any = AutoModelForCausalLM
    model = factory.from_pretrained(folder, **options)
    weights = model.state_dict()
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        if dtype == torch.float32:
            msg = "its weights contain infinities or NaN"
            raise ValueError(msg)
        return _read_weights(folder, file, torch.float32)  # too large for float16
    # a model that came from GGUF counts as quantised and cannot be saved: move its weights to one that does not
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain: PreTrainedModel = factory.from_config(config, dtype=dtype)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    return plain


def _mended_tokenizer(
    tokenizer: PreTrainedTokenizerBase, metadata: GGUFMetadata, length: int | None
) -> PreTrainedTokenizerBase:
    """Put back what transformers does not take over from the file."""
    backend = tokenizer.backend_tokenizer
    if metadata.pre_tokenizer in _DIGITS_ALONE:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif metadata.pre_tokenizer == "qwen2":
        backend.normalizer = normalizers.NFC()
    elif isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel) and metadata.pre_tokenizer not in _LIKE_GPT2:
        logger.warning(
            "the pre-tokenizer %r is read as GPT-2's: text may be split otherwise than the model was trained on; "
            "the original safetensors folder is exact",
            metadata.pre_tokenizer,
        )
    if length is not None:
        tokenizer.model_max_length = length
    return tokenizer


def _generation_config(tokenizer: PreTrainedTokenizerBase, metadata: GGUFMetadata) -> GenerationConfig:
    """The ids that end an answer, those the file names first, and the padding id."""
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    spelled = (vocabulary[text] for text in _END_OF_ANSWER if vocabulary.get(text) in special)
    ends = list(dict.fromkeys([*metadata.eos_token_ids, *spelled]))
    pad = tokenizer.pad_token_id
    build: Any = GenerationConfig
    config: GenerationConfig = build(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends or None,
        pad_token_id=pad if pad is not None else (ends[0] if ends else None),
    )
    return config


_PROBE = "def f(x):\n    return x + 1234  # naïve Ünïcode é 日本\n\n<|im_start|>user\nIt's 3.14!<|im_end|>\n\t end  "


def _check_round_trip(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    saved = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    same = saved.encode(_PROBE) == tokenizer.encode(_PROBE) and saved.chat_template == tokenizer.chat_template
    if not same or saved.eos_token != tokenizer.eos_token:
        msg = "its tokenizer changed when saved and read again; use the original model folder instead of the GGUF file"
        raise ModelLoadError(msg)
