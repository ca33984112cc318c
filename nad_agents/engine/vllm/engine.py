"""The engine over vLLM: continuous batching, a paged cache, CUDA graphs, quantized kernels, tensor parallelism.

The N candidates of a prompt are N requests of vLLM, which share the prompt's blocks through its prefix cache. The
plugin in vLLM's workers (`nad_agents.engine.vllm.plugin`) records their neurons and signals, and this engine fetches
them when they are needed: after a chunk at which candidates are compared, and at the end.

Dropped candidates are aborted. The others are not affected, as their cache stays in place.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nad_agents.constrained.structured_output import StructuredOutput
from nad_agents.engine.answer_text import AnswerText
from nad_agents.engine.base import Generation, GenerationRequest
from nad_agents.engine.served_model import ServedModel
from nad_agents.engine.streamed_engine import StreamedPrefill
from nad_agents.engine.streamed_generation import StreamedGeneration
from nad_agents.engine.vllm.recording_engine import RecordingEngine
from nad_agents.engine.vllm.sampling_params import candidate_options
from nad_agents.exceptions import ConfigurationError, GenerationError, ModelLoadError
from nad_agents.models.adapter import Adapter
from nad_agents.models.error_text import one_line_error
from nad_agents.rollouts import FinishReason

__all__ = ["VLLMEngine"]


class VLLMEngine(RecordingEngine):
    """A batch of rows over one engine of vLLM; see `nad_agents.engine.base.Engine`.

    Args:
        llm: A `vllm.v1.engine.llm_engine.LLMEngine`; from now on only the scheduler's thread may use it.
        loaded: The model that vLLM runs.

    Attributes:
        loaded: See above.
    """

    def __init__(self, llm: Any, loaded: ServedModel) -> None:
        super().__init__(loaded, count_prompts=True)
        self._llm = llm
        self._owners: dict[str, tuple[StreamedGeneration, int]] = {}
        self._requests = 0
        self._adapters: dict[str, Any] = {}
        # the finalizer also runs when the interpreter exits or the engine is garbage-collected
        self._shut_down = weakref.finalize(self, llm.engine_core.shutdown)
        described: Sequence[Mapping[str, Any]] = llm.collective_rpc("nad_describe")
        self.widths = tuple(described[0]["widths"])
        self.refusal = str(described[0]["refusal"])
        self.signals = bool(described[0]["signals"])

    def check_health(self) -> None:
        """Check that the process of vLLM's engine runs.

        Raises:
            GenerationError: The process has ended.
        """
        # an engine in this process has no such check, and lives as long as this process
        ensure_alive = getattr(self._llm.engine_core, "ensure_alive", None)
        if ensure_alive is not None:
            self._guarded(ensure_alive)

    def with_adapter(self, adapter: Adapter) -> ServedModel:
        """Load a LoRA adapter beside the model, and return the model that has it; requests name the adapter.

        Raises:
            ConfigurationError: vLLM was started without room for the adapter, or requests are running.
            ModelLoadError: vLLM cannot apply the adapter to this model.
        """
        from vllm.lora.request import LoRARequest

        settings = self._llm.vllm_config.lora_config
        if settings is None or settings.max_loras <= len(self._adapters) or settings.max_lora_rank < adapter.rank:
            msg = (
                f"vLLM was started without room for the adapter {adapter.target}; give engine_options={{'enable_lora': "
                f"True, 'max_loras': {len(self._adapters) + 1}, 'max_lora_rank': {adapter.rank}}} or higher numbers"
            )
            raise ConfigurationError(msg)
        if self._generations:
            raise ConfigurationError("an adapter cannot be added while requests are running; add it before the first")
        lora = LoRARequest(adapter.target, len(self._adapters) + 1, adapter.target)
        try:
            self._guarded(lambda: self._llm.add_lora(lora))
        except GenerationError:
            raise
        except Exception as error:
            msg = f"vLLM cannot apply the adapter {adapter.target} to {self.name}: {one_line_error(error)}"
            raise ModelLoadError(msg) from error
        self._adapters[adapter.target] = lora
        return replace(self.loaded, name=f"{self.loaded.name}+{adapter.name}", adapter=adapter.target)

    def join(self, prefill: StreamedPrefill) -> StreamedGeneration:
        """Submit the N candidates of a prompt to vLLM."""
        request, sampling = prefill.request, prefill.request.sampling
        text = AnswerText(
            self.loaded.tokenizer, request.prompt_ids, stop=sampling.stop, visible_tokens=request.visible_tokens
        )
        generation = StreamedGeneration(request, self.layout(request.recording), text, self._take)
        for candidate, seed in request.candidate_seeds().items():
            external = f"nad-{self._requests}"
            self._requests += 1
            self._owners[external] = (generation, candidate)
            state = generation.candidates[candidate]
            state.request_id = self._llm.add_request(
                external,
                {"prompt_token_ids": list(request.prompt_ids)},
                self._sampling_params(request, seed),
                lora_request=None if request.adapter is None else self._adapters[request.adapter],
            )
            state.external_id = external
        self._generations.append(generation)
        return generation

    def step(self, max_tokens: int) -> None:
        """Let vLLM work until a generation has `max_tokens` further tokens of every live candidate, or has ended.

        Raises:
            GenerationError: The process of vLLM's engine has ended.
        """
        generations = [generation for generation in self._generations if generation.live]
        if not generations:
            return
        while not any(self._wait_is_over(one, max_tokens) for one in generations):
            self._receive()
        for generation in generations:
            generation.advance(max_tokens)

    def drop(self, generation: Generation, candidates: Collection[int]) -> None:
        """Prune candidates: vLLM aborts them, and what they have generated is kept."""
        found = self._find(generation)
        self._take(found, [candidate for candidate in candidates if candidate in found.live])
        self._abort([state.external_id for state in found.prune(candidates)])

    def release(self, generation: Generation) -> None:
        """Remove a generation from vLLM, finished or not."""
        found = self._find(generation)
        states, running = found.candidates.values(), found.prune(found.live)
        self._generations.remove(found)
        for state in states:
            self._owners.pop(state.external_id, None)
        # an engine that has ended has nothing to free, and its error has already reached the request
        with contextlib.suppress(GenerationError):
            self._abort([state.external_id for state in running])
            self._call("nad_forget", [state.request_id for state in states])

    def reset_after_fork(self) -> None:
        """Refuse to work in a forked process, whose parent owns the connection to vLLM.

        Raises:
            GenerationError: Always.
        """
        msg = (
            f"{self.name} runs in a vLLM engine that the process before the fork owns; construct the decoder in the "
            "worker itself (gunicorn without --preload), or start processes by the method 'spawn'"
        )
        raise GenerationError(msg)

    def close(self) -> None:
        """End vLLM's processes and free their memory; the engine cannot be used afterwards."""
        self._shut_down()

    # --- vLLM ---

    def _sampling_params(self, request: GenerationRequest, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        structured = [
            StructuredOutputsParams(grammar=processor.lark)
            for processor in request.logits_processors
            if isinstance(processor, StructuredOutput)
        ]
        return SamplingParams(
            **candidate_options(request, seed),
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=structured[0] if structured else None,
        )

    def _receive(self) -> None:
        """Wait for vLLM's next step, and append the new tokens to each candidate."""
        for output in self._guarded(self._llm.step):
            owner = self._owners.get(output.request_id)
            if owner is None:
                continue
            generation, candidate = owner
            completion = output.outputs[0]
            reason: FinishReason = "running"
            if completion.finish_reason is not None:
                reason = "length" if completion.finish_reason == "length" else "stop"
            if completion.finish_reason == "error":
                generation.error = GenerationError("vLLM failed while it generated a candidate; its log says why")
            generation.receive(candidate, completion.token_ids, _drawn_logprobs(completion.logprobs), reason)
            if output.num_cached_tokens and candidate == generation.request.first_candidate:
                generation.cached_tokens = int(output.num_cached_tokens)

    def _take(self, generation: StreamedGeneration, candidates: Collection[int]) -> None:
        """Fetch the neurons and signals that the workers have recorded for some candidates."""
        states = {generation.candidates[i].request_id: generation.candidates[i] for i in candidates}
        if not states:
            return
        # every tensor-parallel worker has all neurons; the first one also has the signals
        for request_id, recorded in self._call("nad_take", list(states))[0].items():
            states[request_id].add_recorded(recorded)

    def _abort(self, external_ids: Sequence[str]) -> None:
        if external_ids:
            self._guarded(lambda: self._llm.abort_request(list(external_ids)))

    def _call(self, method: str, request_ids: Sequence[str]) -> Any:
        return self._guarded(lambda: self._llm.collective_rpc(method, args=(list(request_ids),)))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Call vLLM.

        Raises:
            GenerationError: The process of vLLM's engine has ended.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return call()
        except EngineDeadError as error:
            msg = f"the vLLM engine of {self.name} has ended, and its log says why; construct the decoder again"
            raise GenerationError(msg) from error


def _drawn_logprobs(logprobs: Any) -> list[float]:
    """Return the log-probability of the drawn token at each position; vLLM lists it first."""
    return [logprobs.logprobs[start] for start in logprobs.start_indices]
