"""The engine over a `vllm serve` in another process or on another machine, in which the plugin records.

Prompts and candidates are sent as tokens, and NAD's parameters are sent in `vllm_xargs`. The engine fetches the data
that the workers have recorded through the routes of `nad_agents.engine.vllm.endpoint`.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nad_agents.constrained.structured_output import StructuredOutput
from nad_agents.engine.answer_text import AnswerText
from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.openai.answer_pieces import AnswerPiece
from nad_agents.engine.openai.engine import OpenAIEngine
from nad_agents.engine.served_model import ServedModel
from nad_agents.engine.streamed_engine import StreamedPrefill
from nad_agents.engine.streamed_generation import StreamedGeneration
from nad_agents.engine.vllm.endpoint import FORGET_ROUTE, TAKE_ROUTE
from nad_agents.engine.vllm.recording_engine import RecordingEngine
from nad_agents.engine.vllm.request_options import EXTRA_ARG, RequestOptions
from nad_agents.engine.vllm.sampling_params import candidate_options
from nad_agents.exceptions import GenerationError

if TYPE_CHECKING:
    import httpx

__all__ = ["VLLMServerEngine"]

_EXTRA = ("top_k", "min_p", "repetition_penalty", "min_tokens", "skip_special_tokens")
"""Names of vLLM's sampling parameters that OpenAI's protocol lacks."""


class VLLMServerEngine(RecordingEngine, OpenAIEngine):
    """Generates candidates with a `vllm serve`; see `nad_agents.engine.base.Engine`.

    Args:
        client: An `openai.OpenAI` for the server.
        routes: A client for the plugin's routes.
        loaded: The model that front ends use.
        served_name: Name of the model at the server.
        widths: Number of neurons of each layer.
        refusal: Why the model cannot be recorded; empty if it can.
        signals: Whether the server's workers record the signals of tokens.
        max_rows: Greatest number of requests that are sent at the same time.
    """

    def __init__(
        self,
        client: Any,
        routes: httpx.Client,
        loaded: ServedModel,
        *,
        served_name: str,
        widths: Sequence[int],
        refusal: str,
        signals: bool,
        max_rows: int,
    ) -> None:
        super().__init__(client, loaded, max_rows=max_rows, logprobs=True, top_logprobs=0)
        self._routes = routes
        self._served_name = served_name
        self.widths = tuple(widths)
        self.refusal = refusal
        self.signals = signals

    def join(self, prefill: StreamedPrefill) -> StreamedGeneration:
        """Send the requests of the N candidates."""
        request = prefill.request
        text = AnswerText(
            self.loaded.tokenizer,
            request.prompt_ids,
            stop=request.sampling.stop,
            visible_tokens=request.visible_tokens,
        )
        generation = StreamedGeneration(request, self.layout(request.recording), text, self._take)
        bodies = {}
        for candidate, seed in request.candidate_seeds().items():
            key = generation.candidates[candidate].external_id = uuid.uuid4().hex
            bodies[candidate] = self._body(request, seed, key)
        return self._send(generation, bodies)

    def drop(self, generation: Generation, candidates: Collection[int]) -> None:
        """Prune candidates: their connections are closed, and what they have generated is kept."""
        found = self._find(generation)
        self._take(found, [candidate for candidate in candidates if candidate in found.live])
        super().drop(generation, candidates)

    def release(self, generation: Generation) -> None:
        """Close the connections of a generation, and make the server free its recorded data."""
        found = self._find(generation)
        super().release(generation)
        keys = [state.external_id for state in found.candidates.values()]
        self._submit(self._routes.post, FORGET_ROUTE, json=keys)

    def _body(self, request: GenerationRequest, seed: int, key: str) -> dict[str, Any]:
        options = candidate_options(request, seed)
        recorded = RequestOptions.of(request.recording).model_copy(update={"key": key})
        extra = {name: options[name] for name in _EXTRA if name in options}
        for processor in request.logits_processors:
            if isinstance(processor, StructuredOutput):
                extra["structured_outputs"] = {"grammar": processor.lark}
        return {
            "model": self._served_name,
            "prompt": list(request.prompt_ids),
            "max_tokens": options["max_tokens"],
            "temperature": options["temperature"],
            "top_p": options["top_p"],
            "seed": seed,
            "stop": options["stop"],
            "logprobs": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_body": {**extra, "return_token_ids": True, "vllm_xargs": {EXTRA_ARG: recorded.model_dump_json()}},
        }

    def _close_connections(self) -> None:
        """Close the connections; see `OpenAIEngine`."""
        super()._close_connections()
        self._routes.close()

    def _read(self, reader: Any, choice: Any) -> Iterator[AnswerPiece]:  # noqa: ARG002 - the base class's signature
        """Yield the tokens in a chunk of a stream."""
        ids = getattr(choice, "token_ids", None) or ()
        logprobs = getattr(choice.logprobs, "token_logprobs", None) or ()
        for token, logprob in zip(ids, logprobs, strict=True):
            yield AnswerPiece("", logprob, token=token)

    def _take(self, generation: StreamedGeneration, candidates: Collection[int]) -> None:
        """Fetch the neurons and signals that the server's workers have recorded for some candidates."""
        states = {generation.candidates[i].external_id: generation.candidates[i] for i in candidates}
        if not states:
            return
        import httpx

        try:
            answer = self._routes.post(TAKE_ROUTE, json=list(states)).raise_for_status()
        except httpx.HTTPError as error:
            msg = f"the server of {self.name} did not hand over what it has recorded: {error}"
            raise GenerationError(msg) from error
        for key, recorded in answer.json().items():
            for name in ("neurons", "signals"):
                recorded[name] = base64.b64decode(recorded[name])
            states[key].add_recorded(recorded)
