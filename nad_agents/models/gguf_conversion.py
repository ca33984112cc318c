"""Convert a GGUF file to a folder in transformers' format.

transformers can read GGUF, but it takes tens of seconds, drops part of the tokenizer and of the generation config, and
cannot save what it read. The conversion

1. dequantizes the weights once and stores them in the smallest type that keeps their precision (`_storage_dtype`),
2. restores the tokenizer's pre-tokenizer where transformers falls back to GPT-2's,
3. lists every token that ends an answer in the generation config, found in the vocabulary as llama.cpp finds them.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import normalizers, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from nad_agents.exceptions import ModelLoadError, NADError, UnsupportedModelError
from nad_agents.models.error_text import one_line_error
from nad_agents.models.gguf_config import check_all_weights_used, completed_config
from nad_agents.models.gguf_header import CONVERSION_VERSION, GGUFMetadata
from nad_agents.models.gguf_reading import HeaderReader, reading_once
from nad_agents.models.logging import logger, silence_libraries
from nad_agents.models.model_checks import check_decoder_only, context_length

__all__ = ["convert", "converted_size"]

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
"""Spellings of tokens that end an answer, after llama.cpp's list of end-of-generation tokens."""

_DIGITS_ALONE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Pre-tokenizers that split off every digit and then split as GPT-2 does (llama.cpp, `llm_tokenizer_bpe`)."""

_LIKE_GPT2 = frozenset({"gpt-2", "gpt2", "default", "phi-2", "mpt", "olmo", "jais", "roberta-bpe", ""})
"""Pre-tokenizers that GPT-2's regular expression reproduces."""


def _storage_dtype(metadata: GGUFMetadata) -> torch.dtype:
    """Return the smallest type that keeps the precision of the file's weights.

    Quantized blocks have float16 scales, so float16 resolves their values. Measured on the default model, the weights
    move by 2e-4 of their norm, the next-token distribution by a KL divergence of 2e-6, and 499.6 of 500 activated
    neurons stay the same. bfloat16 takes as much disk space and moves the distribution 35 times as far. Files that are
    not quantized keep their own type.
    """
    if metadata.quantized or metadata.matrix_type == "F16":
        return torch.float16
    return torch.bfloat16 if metadata.matrix_type == "BF16" else torch.float32


def converted_size(metadata: GGUFMetadata) -> int:
    """Return how many bytes the weights of a file take once they are converted."""
    return metadata.parameters * _storage_dtype(metadata).itemsize


def convert(path: Path, reader: HeaderReader, metadata: GGUFMetadata, folder: Path) -> dict[str, Any]:
    """Write the model, its tokenizer and its generation config to a folder.

    Args:
        path: The GGUF file.
        reader: The reader that has read the file's header.
        metadata: The metadata in the header.
        folder: Empty folder to write to.

    Returns:
        The entries of the cache's manifest: versions, architecture and dtype.

    Raises:
        ModelLoadError: The file cannot be converted, or its tokenizer does not survive saving.
        UnsupportedModelError: transformers cannot read the architecture, or it is not decoder-only.
    """
    # linked into a folder of its own, because transformers would read a config or tokenizer file next to it
    with tempfile.TemporaryDirectory(prefix="nad-gguf-") as alone, silence_libraries(stderr=True):
        link = Path(alone) / "model.gguf"
        try:
            link.symlink_to(path.resolve())
        except OSError:  # Windows without the right to create links
            shutil.copyfile(path, link)
        try:
            with reading_once(reader, _storage_dtype(metadata)):
                config = AutoConfig.from_pretrained(alone, gguf_file=link.name)
                check_decoder_only(config, path.name)
                config = completed_config(config, metadata, reader)
                tokenizer = _mended_tokenizer(
                    AutoTokenizer.from_pretrained(alone, gguf_file=link.name), metadata, context_length(config)
                )
            model = _read_weights(alone, link.name, config, _storage_dtype(metadata), reader)
            check_all_weights_used(model, metadata, reader, path.name)
        except NADError:
            raise
        except Exception as error:  # tokenizers raises plain exceptions
            reason = one_line_error(error)
            # transformers looks converters up by architecture
            if "not supported" in reason or isinstance(error, NotImplementedError | KeyError):
                msg = (
                    f"{path} has the architecture {metadata.architecture!r}, which transformers "
                    f"{transformers.__version__} cannot read: {reason}"
                )
                raise UnsupportedModelError(msg) from error
            msg = f"{path} could not be converted: {reason}"
            raise ModelLoadError(msg) from error
        model.generation_config = _generation_config(tokenizer, metadata)
        try:
            model.save_pretrained(folder)
            _save_tokenizer(tokenizer, folder)
        except (OSError, SafetensorError) as error:
            msg = f"{path} could not be converted: writing to {folder.parent} failed: {one_line_error(error)}"
            raise ModelLoadError(msg) from error
    return {
        "conversion": CONVERSION_VERSION,
        "transformers": transformers.__version__,
        "architecture": metadata.architecture,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _read_weights(
    folder: str, file: str, config: PreTrainedConfig, dtype: torch.dtype, reader: HeaderReader
) -> PreTrainedModel:
    """Dequantize the weights into a plain model that can be saved."""
    options: dict[str, Any] = {"gguf_file": file, "dtype": dtype, "config": copy.deepcopy(config)}
    if hasattr(transformers, "GgufConfig"):  # versions that can keep blocks quantized need this option
        options["quantization_config"] = transformers.GgufConfig(gguf_file=file, dequantize=True)
    factory: Any = AutoModelForCausalLM
    with reading_once(reader, dtype):
        # weights that do not fit are refused by name below
        options["ignore_mismatched_sizes"] = True
        model, report = factory.from_pretrained(folder, output_loading_info=True, **options)
    lacking = sorted(report["missing_keys"] | {name for name, *_ in report["mismatched_keys"]})
    if lacking:
        msg = f"the file has no weights of the right shape for {len(lacking)} of its model's, such as {lacking[0]}"
        raise UnsupportedModelError(msg)
    weights = model.state_dict()
    # minimum and maximum propagate NaN, and are several times as fast as a test of each weight
    if not all(extreme.isfinite() for weight in weights.values() for extreme in torch.aminmax(weight)):
        if dtype == torch.float32:
            msg = "its weights contain infinities or NaN"
            raise ValueError(msg)
        return _read_weights(folder, file, config, torch.float32, reader)  # some weights overflow float16
    # transformers does not save a model that it read from GGUF: move the weights to a model that it does save
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
    """Restore settings of the tokenizer that transformers does not take over from the file."""
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
    """Make a generation config with the ids that end an answer, those that the file names first, and the padding id."""
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


_SAMPLE_TEXT = (
    "def f(x):\n    return x + 1234  # naïve Ünïcode é 日本\n\n<|im_start|>user\nIt's 3.14!<|im_end|>\n\t end  "
)
"""Text whose tokens must be the same after the tokenizer was saved and read again."""


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer, and check that loading restores it.

    Raises:
        ModelLoadError: The loaded tokenizer differs from the saved one.
    """
    tokenizer.save_pretrained(folder)
    if _comes_back(tokenizer, folder):
        return
    # some classes make their own pre-tokenizer instead of reading the saved one; the general class reads everything
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2), encoding="utf-8")
    if not _comes_back(tokenizer, folder):
        msg = "its tokenizer changed when saved and read again; use the original model folder instead of the GGUF file"
        raise ModelLoadError(msg)


def _comes_back(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    saved = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    same_tokens = saved.encode(_SAMPLE_TEXT) == tokenizer.encode(_SAMPLE_TEXT)
    return bool(
        same_tokens and (saved.chat_template, saved.eos_token) == (tokenizer.chat_template, tokenizer.eos_token)
    )
