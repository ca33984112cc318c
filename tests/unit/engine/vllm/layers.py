"""Layers that tell their sizes as those of vLLM do."""

import torch
from torch import nn

HIDDEN, WIDTH = 8, 12


class Linear(nn.Module):
    def __init__(self, inputs, outputs, *, parts=1, rank=0):
        super().__init__()
        self.input_size, self.output_size = inputs, outputs
        self.input_size_per_partition, self.tp_rank = inputs // parts, rank
        self.weight = nn.Parameter(torch.randn(outputs, inputs // parts), requires_grad=False)

    def forward(self, hidden):
        return hidden @ self.weight.T


class LinearWithLoRA(nn.Module):
    """What vLLM puts around a layer for adapters; its sizes are those of the worker's part."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.input_size, self.output_size = base_layer.input_size_per_partition, base_layer.output_size


class Block(nn.Module):
    """A plain feed-forward block with a residual connection."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = Linear(HIDDEN, WIDTH), Linear(WIDTH, HIDDEN)

    def forward(self, hidden):
        return hidden + self.fc2(self.fc1(hidden).relu())


class Model(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(HIDDEN, 16, bias=False)

    def forward(self, hidden):
        for one in self.layers:
            hidden = one(hidden)
        return hidden

    def compute_logits(self, hidden):
        return self.head(hidden)


def layer(mlp):
    return nn.ModuleDict({"self_attn": nn.ModuleDict({"o_proj": Linear(HIDDEN, HIDDEN)}), "mlp": nn.ModuleDict(mlp)})


def model(layers):
    return Model(layers)
