"""The steps that the engine takes at a time: tokens and signals of all rows, on the device until the end.

Whether candidates have ended is computed on the device after every step, and read by the host every few steps, as
reading makes the host wait for the device. Rows of several generations that draw in the same way share one draw.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from nad_agents.engine.hf.generation import HFGeneration
from nad_agents.engine.hf.sampling import TopLogits
from nad_agents.engine.hf.signals import CONFIDENCE_TOP, token_signals

__all__ = ["DecodingSteps"]


class DecodingSteps:
    """Up to S steps of a batch of R rows.

    Memory for all of them is allocated at the beginning: small tensors that stay, allocated between logits that are
    freed, would fragment the C library's heap until the next logits find no place in it.

    Args:
        generations: Every generation in the batch, in the order of their rows; their rows stay the same meanwhile.
        limit: Desired number of steps.
        device: The model's device.

    Attributes:
        limit: Number of steps after which a generation is at its token limit, at most the desired number.
        count: Number of steps taken.
        tokens: int64 [S, R], of which `count` steps are filled.
    """

    def __init__(self, generations: Sequence[HFGeneration], limit: int, device: torch.device) -> None:
        self._generations = generations = [generation for generation in generations if generation.live]
        self.limit = min([limit, *(generation.steps_left for generation in generations)])
        ends = np.cumsum([0, *(len(generation.live) for generation in generations)]).tolist()
        self._parts = [slice(start, end) for start, end in pairwise(ends)]
        self.count = self._read = 0
        self.tokens = torch.empty(self.limit, ends[-1], dtype=torch.long, device=device)
        self._signals = torch.empty(4, self.limit, ends[-1], device=device)
        self._stopped = torch.zeros(self.limit, ends[-1], dtype=torch.bool, device=device)
        self._last_tokens = torch.cat([generation.sequences[:, -1] for generation in generations])
        self._width = max([CONFIDENCE_TOP, *(generation.sampler.width for generation in generations)])
        self._draws = _runs(generations, self._parts, lambda generation: generation.sampler.key)
        self._stops = _runs(generations, self._parts, lambda generation: generation.end_tokens)
        uniforms = [generation.uniforms(self.limit) for generation in generations]
        # one transfer for all steps and rows
        self._uniforms = torch.cat(uniforms, dim=1).to(device)

    @property
    def last_tokens(self) -> torch.Tensor:
        """The tokens that the rows read next, int64 [R]."""
        return self.tokens[self.count - 1] if self.count else self._last_tokens

    def recent_tokens(self, steps: int) -> torch.Tensor:
        """Return the tokens of the last steps, int64 [steps, R]."""
        return self.tokens[self.count - steps : self.count]

    def add(self, logits: torch.Tensor) -> None:
        """Draw the next token of every row, and keep it with its signals.

        Args:
            logits: float32 [R, vocabulary], the model's unprocessed logits.
        """
        step = self.count
        # 1. the largest logits once for all rows, enough of them for the signals and the draws
        top_logits = TopLogits(*logits.topk(min(self._width, logits.shape[-1])))
        signals = token_signals(logits, top_logits.scores)
        # 2. a token for every row
        tokens = self.tokens[step]
        for members, rows in self._draws:
            own = TopLogits(top_logits.scores[rows], top_logits.ids[rows])
            tokens[rows] = members[0].draw(logits[rows], self._uniforms[step, rows], own)
        logprobs = logits.gather(-1, tokens[:, None]).squeeze(-1) - signals.log_normalizer
        torch.stack([logprobs, signals.entropy, signals.self_certainty, signals.confidence], out=self._signals[:, step])
        # 3. which candidates end with it, still on the device
        for generation, rows in zip(self._generations, self._parts, strict=True):
            generation.follow(tokens[rows])
        for members, rows in self._stops:
            stopped = members[0].stopped(tokens[rows])
            if stopped is not None:
                self._stopped[step, rows] = stopped
        self.count += 1

    def read(self) -> None:
        """Tell the generations which of their candidates have ended since the last call; waits for the device."""
        stopped = self._stopped[self._read : self.count].cpu().numpy()
        self._read = self.count
        for generation, rows in zip(self._generations, self._parts, strict=True):
            generation.note_ends(stopped[:, rows])

    def settle(self) -> None:
        """Move the steps to host memory and hand them to their generations."""
        tokens: NDArray[np.int64] = self.tokens[: self.count].cpu().numpy()
        signals: NDArray[np.float32] = self._signals[:, : self.count].cpu().numpy()
        for generation, rows in zip(self._generations, self._parts, strict=True):
            generation.settle(tokens[:, rows], signals[..., rows], self.tokens[: self.count, rows])


def _runs(
    generations: Sequence[HFGeneration], parts: Sequence[slice], key: Callable[[HFGeneration], Hashable]
) -> list[tuple[list[HFGeneration], slice]]:
    """Return runs of neighboring generations with the same key and the rows of each run; None is like no other key."""
    runs: list[tuple[list[HFGeneration], slice]] = []
    for generation, rows in zip(generations, parts, strict=True):
        if runs and key(generation) is not None and key(runs[-1][0][0]) == key(generation):
            members, before = runs.pop()
            runs.append(([*members, generation], slice(before.start, rows.stop)))
        else:
            runs.append(([generation], rows))
    return runs
