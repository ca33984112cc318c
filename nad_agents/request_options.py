"""`RequestOptions`: the options of one call of the decoder, and the checks on them before any prompt is read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nad_agents.engine.base import Engine
from nad_agents.events import Progress
from nad_agents.exceptions import ConfigurationError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.selection import check_configuration, make_selector
from nad_agents.types import NADConfig, SamplingConfig, VerificationConfig
from nad_agents.verification import Verifier

__all__ = ["RequestOptions"]


@dataclass(frozen=True)
class RequestOptions:
    """The keywords of one call, which hold for all of its prompts; what the call left out is the decoder's already.

    Attributes:
        sampling: How candidates are sampled.
        config: Options for recording and comparing.
        verifier: Judges answers in rank order; None trusts the ranking.
        verification: How candidates are checked in rank order.
        raw: Whether text is continued as it is, without the chat template.
        tools: Tools in OpenAI's form, for the chat template.
        chat_template_kwargs: Further variables of the chat template.
        logits_processors: Makes further logits processors, for each prompt and each wave.
        visible_tokens: Special tokens that stay in the text.
        parse_special_tokens: Whether the text of a special token in a message becomes that token.
        timeout: Seconds until a request is cancelled; None sets no limit.
        on_progress: Called on the engine's thread as candidates grow.
        on_rows_freed: Called there with the number of a prompt's candidates that have yet to end.
        streaming: Whether events are collected.
        watch: Whether events follow every candidate.
    """

    sampling: SamplingConfig
    config: NADConfig
    verifier: Verifier | None
    verification: VerificationConfig
    raw: bool
    tools: Sequence[Mapping[str, Any]]
    chat_template_kwargs: Mapping[str, Any] | None
    logits_processors: Callable[[], Sequence[Any]] | None
    visible_tokens: Collection[int]
    parse_special_tokens: bool
    timeout: float | None
    on_progress: Callable[[Progress], None] | None
    on_rows_freed: Callable[[int], None] | None
    streaming: bool
    watch: bool

    @property
    def comparison(self) -> ComparisonConfig:
        """How candidates are compared."""
        return ComparisonConfig.from_config(self.config)

    @property
    def wave_size(self) -> int:
        """Number of candidates that grow at a time."""
        return self.config.wave_size(self.sampling)

    def check(self, engine: Engine) -> None:
        """Refuse options that cannot work with an engine or with each other.

        Args:
            engine: The engine that would run the requests.

        Raises:
            ConfigurationError: An option cannot work, or two of them do not go together.
        """
        check_configuration(self.sampling, self.config)
        engine.check_selector(make_selector(self.config, self.comparison))
        if self.watch and self.wave_size < self.sampling.n:
            msg = "candidates of several waves cannot be watched side by side; leave out wave and until"
            raise ConfigurationError(msg)
        if self.config.until == "passed" and self.verifier is None:
            msg = "until='passed' needs to know what passes; give a verifier, or until='decided'"
            raise ConfigurationError(msg)
        if self.timeout is not None and not self.timeout > 0:  # the condition also rejects NaN
            msg = f"timeout={self.timeout} leaves no time to answer; give seconds above 0"
            raise ConfigurationError(msg)

    def with_seed(self) -> RequestOptions:
        """Return the options with a random seed for all prompts if the sampling has none."""
        if self.sampling.seed is not None:
            return self
        return replace(self, sampling=self.sampling.model_copy(update={"seed": secrets.randbits(32)}))
