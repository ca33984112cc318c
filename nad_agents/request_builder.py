"""`RequestBuilder`: a prompt becomes a request for the scheduler, with observer, stopping rule and selection plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nad_agents.engine.base import Engine, GenerationRequest
from nad_agents.engine.scheduled_request import Cancellation, ScheduledRequest
from nad_agents.engine.served_model import ServedModel
from nad_agents.event_queue import EventQueue
from nad_agents.models import LoadedModel
from nad_agents.neurons.recording_config import RecordingConfig
from nad_agents.observer import RequestObserver
from nad_agents.pending import PendingRequest
from nad_agents.prompt import Prompt, encode_prompt, last_user_text
from nad_agents.pruning import pruning_policy
from nad_agents.request_options import RequestOptions
from nad_agents.selection import SelectionPlan, make_selector
from nad_agents.selectors.base import Selector
from nad_agents.stopping import KeptScores, KeptVerdicts, StoppingRule, UntilDecided, UntilPassed
from nad_agents.types import NADConfig
from nad_agents.verification import Verifier
from nad_agents.waves import WavesUntilEnough

__all__ = ["BuiltRequest", "RequestBuilder", "recording_config"]


@dataclass(frozen=True)
class BuiltRequest:
    """A request that is ready to be queued.

    Attributes:
        pending: The caller's handle.
        scheduled: What enters the scheduler's queue: the whole request, or the first of its waves.
        later_waves: Generates the other waves, once started, until a stopping rule says that there are enough; None if
            the request has no such rule.
    """

    pending: PendingRequest
    scheduled: ScheduledRequest
    later_waves: WavesUntilEnough | None = None


@dataclass(frozen=True)
class RequestBuilder:
    """Builds the requests of one call.

    Attributes:
        options: The call's options, checked and with a seed.
        loaded: The model with its tokenizer.
        engine: The engine that will run the requests.
        submit: Queues requests with the scheduler; called for the later waves of a request.
    """

    options: RequestOptions
    loaded: LoadedModel | ServedModel
    engine: Engine
    submit: Callable[[Sequence[ScheduledRequest]], None]

    def build(self, prompt: Prompt, index: int) -> BuiltRequest:
        """Build the request of one prompt; queue it with `submit`, then start its later waves if it has any.

        Args:
            prompt: Text or chat messages.
            index: Index of the prompt, which its random streams depend on.

        Raises:
            PromptError: The prompt is empty or refused by the chat template.
            ConfigurationError: The chat template does not take its options.
        """
        options, config = self.options, self.options.config
        request = self._generation_request(prompt, index)
        waves = [
            # a processor keeps a state of the rows that it has seen
            replace(wave, logits_processors=tuple(options.logits_processors()) if options.logits_processors else ())
            for wave in request.split(options.wave_size)
        ]
        events, cancellation = EventQueue(), Cancellation(options.timeout)
        observer = self._observer(request, events)
        selector, verifier = make_selector(config, options.comparison), options.verifier
        scheduled: ScheduledRequest | WavesUntilEnough
        if config.until is None:
            scheduled = first = ScheduledRequest(waves, observer, cancellation)
            later_waves = None
        else:
            rule, selector, verifier = self._stopping_rule(request, selector)
            scheduled = later_waves = WavesUntilEnough(
                waves, observer, cancellation, rule=rule, submit=self.submit, on_enough=observer.report_end
            )
            first = later_waves.first
        plan = SelectionPlan(
            request,
            selector,
            options.comparison,
            verifier,
            options.verification,
            self.engine.name,
            config.min_confidence,
            config.on_low_confidence,
        )
        pending = PendingRequest(scheduled, observer, plan, events, watch=options.watch)
        return BuiltRequest(pending, first, later_waves)

    def _generation_request(self, prompt: Prompt, index: int) -> GenerationRequest:
        options = self.options
        ids = encode_prompt(
            self.loaded.tokenizer,
            prompt,
            raw=options.raw,
            tools=options.tools,
            chat_template_kwargs=options.chat_template_kwargs,
            parse_special_tokens=options.parse_special_tokens,
        )
        return GenerationRequest(
            prompt_ids=ids,
            sampling=options.sampling,
            recording=recording_config(options.config, self.engine),
            chunk_size=options.config.chunk_size,
            prompt=last_user_text(prompt),
            prompt_index=index,
            visible_tokens=options.visible_tokens,
            conversation=prompt,
            tools=options.tools,
            raw=options.raw,
            adapter=self.loaded.adapter,
        )

    def _observer(self, request: GenerationRequest, events: EventQueue) -> RequestObserver:
        options, comparison = self.options, self.options.comparison

        def selector_of_chunks(chunks: int) -> Selector:
            return make_selector(options.config, replace(comparison, compare_chunks=chunks))

        return RequestObserver(
            request,
            pruning_policy(
                options.config, selector_of_chunks, replace(comparison, compare_chunks=1), options.sampling.n
            ),
            comparison,
            events,
            streaming=options.streaming or options.watch,
            watch=options.watch,
            early_winner=options.verifier is None,
            on_progress=options.on_progress,
            on_rows_freed=options.on_rows_freed,
        )

    def _stopping_rule(
        self, request: GenerationRequest, selector: Selector
    ) -> tuple[StoppingRule, Selector, Verifier | None]:
        """Return the rule that ends sampling, and the selector and verifier of the final selection.

        The three share what they have computed, so that no candidate is scored or verified twice.
        """
        options, config, verifier = self.options, self.options.config, self.options.verifier
        kept = KeptScores(selector)
        if config.until == "decided" or verifier is None:
            return UntilDecided(kept, config.decided_at), kept, verifier
        verdicts = KeptVerdicts(verifier)
        rule = UntilPassed(
            verdicts,
            request.prompt,
            options.verification,
            passes=config.passes,
            selector=kept,
            threshold=config.decided_at,
        )
        return rule, kept, verdicts


def recording_config(config: NADConfig, engine: Engine) -> RecordingConfig | None:
    """Return which neurons an engine records.

    Args:
        config: The caller's options.
        engine: The engine.

    Returns:
        The recording config; None if nothing needs neurons or the engine cannot record them.
    """
    if not config.record or not engine.records_neurons:
        return None
    return RecordingConfig(
        config.score, config.top_k_neurons, config.top_k_neurons_per_layer, config.layers, config.router_weights
    )
