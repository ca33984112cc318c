"""Folders with random LoRA adapters."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nad_agents.models.adapter import sharing_copy


def write_adapter(model: PreTrainedModel, folder: Path, *, seed: int = 0, **options: Any) -> None:
    """Save an adapter with random weights on every linear layer of a model, which stays as it is."""
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "fan_in_fan_out": transposed}
    config = LoraConfig(lora_alpha=16, **{**settings, **options})
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for an old name
        torch.manual_seed(seed)
        adapted = get_peft_model(sharing_copy(model), config)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(folder)
