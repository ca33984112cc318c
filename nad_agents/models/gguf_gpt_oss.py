"""Read the weights of gpt-oss that transformers leaves out of a GGUF file: the experts and the attention sinks.

llama.cpp stores the gate, up and down projections of all experts as [experts, outputs, inputs]. transformers multiplies
by [experts, inputs, outputs], and keeps gate and up in one tensor, with their columns in turns.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.modeling_gguf_pytorch_utils import GGUFTensor, TensorProcessor

__all__ = ["GptOssTensors"]

_EXPERTS = re.compile(r"blk\.(?P<layer>\d+)\.ffn_(?P<part>gate|up|down)_exps\.(?P<kind>weight|bias)")


class GptOssTensors(TensorProcessor):
    """Gives the tensors of a file the names and the layout of transformers' gpt-oss."""

    def process(self, weights: NDArray[Any], name: str, **kwargs: Any) -> GGUFTensor:
        """Return a tensor under the name that transformers looks up; experts are put into the state dict at once.

        Args:
            weights: The tensor's floats.
            name: The tensor's name in the file.
            **kwargs: `parsed_parameters`, whose entry "tensors" is the state dict.
        """
        if name.endswith(".attn_sinks.weight"):
            return GGUFTensor(weights, name.removesuffix(".weight"), {})
        found = _EXPERTS.fullmatch(name)
        if found is None:
            return GGUFTensor(weights, name, {})
        tensors: dict[str, torch.Tensor] = kwargs["parsed_parameters"]["tensors"]
        part, bias = found["part"], found["kind"] == "bias"
        projection = "down_proj" if part == "down" else "gate_up_proj"
        target = f"model.layers.{found['layer']}.mlp.experts.{projection}{'_bias' if bias else ''}"
        values = torch.from_numpy(np.array(weights if bias else weights.swapaxes(1, 2), order="C"))
        if part == "down":
            tensors[target] = values
        else:
            if target not in tensors:
                tensors[target] = values.new_empty(*values.shape[:-1], 2 * values.shape[-1])
            tensors[target][..., (0 if part == "gate" else 1) :: 2] = values
        return GGUFTensor(weights, "", {})  # no tensor of the model has this name
