"""Let the model judge its own answers: it grades two answers, or one answer alone, with the probabilities of letters.

A judgment is one token. Its value is the expectation over the letters' probabilities, which is more precise than the
letter that the model would write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nad_agents.exceptions import ConfigurationError
from nad_agents.types import NADConfig, SamplingConfig

if TYPE_CHECKING:
    import torch

    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ModelJudge"]

_GRADES = "ABCDEFGHIJKLMNOPQRST"
"""The letters of the grades, from the worst to the best."""

_ANSWERS = (
    "Here are a task and two answers to it.\n\n# Task\n\n{task}\n\n# Answer 1\n\n{first}\n\n# Answer 2\n\n{second}\n\n"
)
_GRADE = (
    "How likely is answer {number} to be completely correct? Write one letter from A (certainly wrong) to T (certainly "
    "correct), and nothing else."
)
_ALONE = (
    "Here are a task and an answer to it.\n\n# Task\n\n{task}\n\n# Answer\n\n{answer}\n\n"
    "Is the answer correct?\nA: yes\nB: no\nWrite A or B, and nothing else."
)
_OUTCOMES = (
    "Here are a programming task and what two programs for it do with one input.\n\n# Task\n\n{task}\n\n"
    "# Input\n\n{given}\n\n# Results\n\nA: {first}\nB: {second}\n\n"
    "Which result is right? Write A or B, and nothing else."
)


class ModelJudge:
    """Lets a model judge its own answers; the judge for the selectors ``self_verify``, ``p_true`` and ``behaviour``.

    All questions of one call run in one batch, and questions about the same answers share their beginning.

    Args:
        decoder: The decoder that answers the questions.
        max_characters: Number of characters shown of an answer; the middle of a longer answer is left out.

    Attributes:
        questions: Number of questions asked so far.
    """

    def __init__(self, decoder: NeuronAgreementDecoder, *, max_characters: int = 6000) -> None:
        self.decoder = decoder
        self.max_characters = max_characters
        self.questions = 0

    def compare(self, task: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Grade both answers of each pair.

        Args:
            task: The task that the answers solve.
            pairs: Pairs of answers.

        Returns:
            For each pair the grade of the first answer minus that of the second, in [-1, 1].

        Raises:
            ConfigurationError: The model has no single tokens for the letters.
            NADError: The model could not answer.
        """
        asked = []
        for first, second in pairs:
            shown = _ANSWERS.format(task=task, first=self._cut(first), second=self._cut(second))
            # the question comes last, so that both questions share everything before it
            asked += [shown + _GRADE.format(number=number) for number in (1, 2)]
        chances = self._letter_chances(asked, _GRADES)
        grades = chances @ np.linspace(0, 1, len(_GRADES))
        return [float(a - b) for a, b in grades.reshape(-1, 2)]

    def p_true(self, task: str, answers: Sequence[str]) -> list[float]:
        """Return the model's probability that each answer is right.

        Args:
            task: The task that the answers solve.
            answers: The answers.

        Raises:
            ConfigurationError: The model has no single tokens for the letters.
            NADError: The model could not answer.
        """
        asked = [_ALONE.format(task=task, answer=self._cut(answer)) for answer in answers]
        return [float(chance) for chance in self._letter_chances(asked, "AB")[:, 0]]

    def prefer(self, task: str, cases: Sequence[tuple[str, str, str]]) -> list[float]:
        """Return the model's probability that the first of two results is the right one.

        Each case is asked twice, with the results in both orders, as models prefer a letter.

        Args:
            task: The task.
            cases: An input and the results of two programs, each.

        Raises:
            ConfigurationError: The model has no single tokens for the letters.
            NADError: The model could not answer.
        """
        asked = []
        for given, first, second in cases:
            asked += [
                _OUTCOMES.format(task=task, given=self._cut(given), first=self._cut(one), second=self._cut(other))
                for one, other in ((first, second), (second, first))
            ]
        chances = self._letter_chances(asked, "AB")[:, 0].reshape(-1, 2)
        return [float(forwards + 1 - backwards) / 2 for forwards, backwards in chances]

    def _cut(self, text: str) -> str:
        if len(text) <= self.max_characters:
            return text.strip()
        half = self.max_characters // 2
        return f"{text[:half]}\n...\n{text[-half:]}".strip()

    def _letter_chances(self, prompts: Sequence[str], letters: str) -> NDArray[np.float64]:
        """Return the probability of each letter as the first token of the answer, float64 [prompts, letters]."""
        import torch
        from transformers import LogitsProcessor

        if not prompts:
            return np.zeros((0, len(letters)))
        ids = torch.tensor([self._token(letter) for letter in letters])
        seen: list[Any] = []

        class Reader(LogitsProcessor):
            """Stores the letters' logits at the first token."""

            def __init__(self) -> None:
                self.logits: torch.Tensor | None = None
                seen.append(self)

            def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
                del input_ids
                if self.logits is None:
                    self.logits = scores[0].float().cpu()[ids]
                return scores

        self.questions += len(prompts)
        pending = self.decoder.submit(
            list(prompts),
            sampling=SamplingConfig(n=1, temperature=0.0, max_new_tokens=1),
            config=NADConfig(selector="first", record=False),
            verifier=None,
            logits_processors=lambda: [Reader()],
        )
        for request in pending:
            request.outcome()
        return torch.stack([reader.logits for reader in seen]).double().softmax(-1).numpy()

    def _token(self, letter: str) -> int:
        """Return the token of a letter at the beginning of an answer."""
        tokenizer = self.decoder.loaded.tokenizer
        ids = tokenizer(letter, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) != 1:
            msg = (
                f"the model has no single token for the letter {letter}, by which it would judge; use another selector"
            )
            raise ConfigurationError(msg)
        return int(ids[0])
