"""LoRA adapters in vLLM, which keeps them beside the weights and applies another one to each request of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from nad_agents.exceptions import UnsupportedModelError
from nad_agents.models.adapter import Adapter

__all__ = ["adapter_options"]


def adapter_options(adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Return the options of `vllm.EngineArgs` that make room for LoRA adapters, so that one batch can use all of them.

    Args:
        adapters: The adapters; without any, there are no options.

    Raises:
        UnsupportedModelError: The rank of an adapter is higher than vLLM allows.
    """
    if not adapters:
        return {}
    from vllm.config.lora import MaxLoRARanks

    ranks = sorted(get_args(MaxLoRARanks))
    for adapter in adapters:
        if adapter.rank > ranks[-1]:
            msg = (
                f"the adapter {adapter.target} has rank {adapter.rank}, and vLLM runs ranks up to {ranks[-1]}; merge "
                "it into its model and give that"
            )
            raise UnsupportedModelError(msg)
    highest = max(adapter.rank for adapter in adapters)
    return {
        "enable_lora": True,
        "max_loras": len(adapters),
        "max_lora_rank": next(rank for rank in ranks if rank >= highest),
    }
