"""Let the model propose test inputs and assertions on which the candidates' programs are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nad_agents.constrained.grammar import json_grammar
from nad_agents.exceptions import MissingDependencyError
from nad_agents.types import NADConfig, SamplingConfig

if TYPE_CHECKING:
    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["ModelAssertions", "ModelInputs", "ModelSeparator"]

_KEPT = 16
"""Number of cached answers; a caller that samples in waves repeats its question with each wave."""

_TASK = "Here is a programming task. Do not solve it: it will be tested, and you choose the inputs.\n\n{task}\n\n"
_CALLS = (
    "Write a JSON list of {count} different test inputs, usual ones and edge cases. Each is an object with the "
    "arguments of one call: {names}."
)
_TEXTS = (
    "Write a JSON list of {count} different test inputs, usual ones and edge cases. Each is the text that the program "
    "reads from standard input."
)


class ModelInputs:
    """Asks a model for test inputs as a JSON list; a `propose` function for ``nad_sandbox.BehaviourRunner``.

    The list is one greedy answer that a grammar constrains. It is generated once the candidates are finished: in one
    batch with them it would change the last bits of their logits, and so what a seed gives.

    Args:
        decoder: The decoder that answers.
        count: Greatest number of inputs per prompt.
        max_new_tokens: Token limit of the list, at which the grammar closes it in time.

    Attributes:
        generated_tokens: Number of tokens that the model has generated for all lists so far.

    Raises:
        MissingDependencyError: llguidance is not installed.
    """

    def __init__(self, decoder: NeuronAgreementDecoder, *, count: int = 6, max_new_tokens: int = 128) -> None:
        if find_spec("llguidance") is None:
            msg = "a model's proposals need llguidance; install it with: pip install 'nad-agents[grammar]'"
            raise MissingDependencyError(msg)
        self.decoder = decoder
        self.count = count
        self.max_new_tokens = max_new_tokens
        self.generated_tokens = 0
        self._known: dict[str, list[object]] = {}

    def __call__(self, prompt: str, parameters: Mapping[str, Mapping[str, Any]] | None) -> list[object]:
        """Return inputs for the program that a prompt asks for.

        Args:
            prompt: The task.
            parameters: The JSON schema of each of the function's parameters, by name; None for a program that reads
                standard input.

        Returns:
            Mappings from the parameters' names to arguments, or texts for standard input.

        Raises:
            ConfigurationError: The model's tokenizer does not work with grammars, or the token limit is too low.
            NADError: The model could not answer.
        """
        if parameters == {}:
            return []
        question = _TEXTS if parameters is None else _CALLS
        ask = _TASK.format(task=prompt) + question.format(count=self.count, names=_names(parameters))
        return self._list(ask, _item(parameters))[0]

    def _list(self, ask: str, item: Mapping[str, Any]) -> tuple[list[object], int]:
        """Return the list with which the model answers a question under a grammar, and its number of tokens.

        Answers are cached; one from the cache costs no tokens.
        """
        asked = ask + json.dumps(item, sort_keys=True)
        known = self._known.get(asked)
        if known is not None:
            return known, 0
        from nad_agents.constrained.decoding import make_processors

        schema = {"type": "array", "items": item, "minItems": 1, "maxItems": self.count}
        group = self.decoder.sample(
            ask,
            sampling=SamplingConfig(n=1, temperature=0.0, max_new_tokens=self.max_new_tokens),
            config=NADConfig(selector="first", record=False),
            logits_processors=make_processors(
                json_grammar(schema, "the list of inputs"), self.decoder.loaded, self.max_new_tokens
            ),
        )
        answer = group.rollouts[0]
        proposed: list[object] = json.loads(answer.text)
        if len(self._known) >= _KEPT:
            self._known = {}
        self._known[asked] = proposed
        self.generated_tokens += len(answer)
        return proposed, len(answer)


def _names(parameters: Mapping[str, Mapping[str, Any]] | None) -> str:
    return ", ".join(f'"{name}"' for name in parameters or ())


def _item(parameters: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return the JSON schema of one input."""
    if parameters is None:
        return {"type": "string"}
    properties = dict(parameters)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_DIFFERENT = (
    "Here are a programming task and two programs for it, which do not always give the same result. Do not solve the "
    "task.\n\n# Task\n\n{task}\n\n# Program 1\n\n{first}\n\n# Program 2\n\n{second}\n\n"
    "Write a JSON list of {count} different test inputs for which the two programs give different results. "
)
_LONGEST_ANSWER = 4000


class ModelSeparator(ModelInputs):
    """Asks a model for inputs on which two programs differ; the option `separate` of the selector ``behaviour``.

    The list is one greedy answer that a grammar constrains, as for `ModelInputs` (S*, arXiv 2502.14382).

    Args:
        decoder: The decoder that answers.
        count: Greatest number of inputs for two programs.
        max_new_tokens: Token limit of the list, at which the grammar closes it in time.

    Raises:
        MissingDependencyError: llguidance is not installed.
    """

    def __init__(self, decoder: NeuronAgreementDecoder, *, count: int = 4, max_new_tokens: int = 128) -> None:
        super().__init__(decoder, count=count, max_new_tokens=max_new_tokens)

    def separate(
        self, prompt: str, first: str, second: str, parameters: Mapping[str, Mapping[str, Any]] | None
    ) -> tuple[list[object], int]:
        """Return inputs on which the model expects two programs to differ.

        Args:
            prompt: The task.
            first: The answer with the one program.
            second: The answer with the other program.
            parameters: The JSON schema of each of the function's parameters, by name; None for a program that reads
                standard input.

        Returns:
            The inputs, as `ModelInputs` returns them, and the number of tokens that the model generated for them.

        Raises:
            ConfigurationError: The model's tokenizer does not work with grammars, or the token limit is too low.
            NADError: The model could not answer.
        """
        if parameters == {}:
            return [], 0
        ask = _DIFFERENT.format(
            task=prompt, first=first[:_LONGEST_ANSWER], second=second[:_LONGEST_ANSWER], count=self.count
        )
        if parameters is None:
            ask += "Each is the text that the programs read from standard input."
        else:
            ask += f"Each is an object with the arguments of one call: {_names(parameters)}."
        return self._list(ask, _item(parameters))


_ASSERTIONS = (
    "Write a JSON list of {count} different test cases, usual ones and edge cases. Each is an object with the "
    "arguments of one call, {names}, and with {expected}, which is what the call has to return."
)


class ModelAssertions(ModelInputs):
    """Asks a model for calls with their expected results; the `write` function for ``nad_sandbox.AssertionRunner``.

    The list is one greedy answer that a grammar constrains, as for `ModelInputs`.

    Args:
        decoder: The decoder that answers.
        count: Greatest number of assertions per prompt.
        max_new_tokens: Token limit of the list, at which the grammar closes it in time.

    Raises:
        MissingDependencyError: llguidance is not installed.
    """

    def __init__(self, decoder: NeuronAgreementDecoder, *, count: int = 10, max_new_tokens: int = 384) -> None:
        super().__init__(decoder, count=count, max_new_tokens=max_new_tokens)

    def __call__(self, prompt: str, parameters: Mapping[str, Mapping[str, Any]] | None) -> list[object]:
        """Return assertions for the function that a prompt asks for.

        Args:
            prompt: The task.
            parameters: The JSON schema of each of the function's parameters, by name.

        Returns:
            Mappings from the parameters' names to arguments, and from ``expected_result`` to the expected result.

        Raises:
            ConfigurationError: The model's tokenizer does not work with grammars, or the token limit is too low.
            NADError: The model could not answer.
        """
        if not parameters:
            return []
        names = list(parameters)
        plain = [{"type": kind} for kind in ("integer", "number", "string", "boolean", "null")]
        result = {"anyOf": [*plain, {"type": "array", "items": {"anyOf": plain}}]}
        item = {
            "type": "object",
            "properties": {**parameters, _EXPECTED: result},
            "required": [*names, _EXPECTED],
            "additionalProperties": False,
        }
        ask = _TASK.format(task=prompt) + _ASSERTIONS.format(
            count=self.count, names=_names(parameters), expected=f'"{_EXPECTED}"'
        )
        return self._list(ask, item)[0]


_EXPECTED = "expected_result"
