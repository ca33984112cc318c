"""The tools of the MCP server; their docstrings and their parameters' descriptions are what an assistant reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from anyio import to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from nad_agents.chat.evidence import evidence
from nad_agents.config_fields import bounds, description
from nad_agents.events import Finished, Progress
from nad_agents.exceptions import NADError
from nad_agents.pending import PendingRequest, submit_in_thread
from nad_agents.types import BEHAVIOUR_SELECTORS, NADConfig, SamplingConfig
from nad_mcp.results import BestOfN, CodeCheck, ProgramRun

if TYPE_CHECKING:
    from nad_sandbox import Sandbox

    from nad_agents.decoder import NeuronAgreementDecoder
    from nad_agents.types import Selection
    from nad_agents.verification import Verifier

__all__ = ["NADTools"]

_LONGEST_RUN = 120.0
"""Most seconds that an assistant may give to a program."""


def _sampling_field(name: str, default: str = "the server's") -> Any:
    limits: dict[str, Any] = bounds(SamplingConfig, name)
    return Field(description=f"{description(SamplingConfig, name)} Default: {default}.", **limits)


Prompt = Annotated[str, Field(description="What the model is asked, complete: it sees nothing else.", min_length=1)]
N = Annotated[int | None, _sampling_field("n")]
Temperature = Annotated[float | None, _sampling_field("temperature")]
MaxNewTokens = Annotated[int | None, _sampling_field("max_new_tokens")]
Seed = Annotated[int | None, _sampling_field("seed", default="a fresh one, which the evidence reports")]
SelectorName = Annotated[
    str | None, Field(description="Name of the selector, such as knn or majority. Default: the server's.")
]
Verify = Annotated[
    bool,
    Field(
        description="Run the candidates' Python code in a sandbox: they are compared by what it does, and the answer "
        "is the best-ranked whose code passes the examples in the prompt and the tests."
    ),
]
Tests = Annotated[
    str | None,
    Field(description="Python tests that the code must pass, such as 'assert add(1, 2) == 3'; pytest works too."),
]
AlsoVerifies = Annotated[Tests, Field(description="Python tests that the code must pass; implies verify.")]
IncludeCandidates = Annotated[bool, Field(description="Whether the evidence has the text of every candidate.")]
Code = Annotated[str, Field(description="A Python program, or an answer with a fenced one.", min_length=1)]
Task = Annotated[str, Field(description="The task that the code solves; the examples in it are checked.")]
EntryPoint = Annotated[
    str | None, Field(description="Name of the function to pass to tests that define check(candidate).")
]
Program = Annotated[str, Field(description="A complete Python program; what it prints is its result.", min_length=1)]
StandardInput = Annotated[str, Field(description="What the program reads from standard input.")]
Files = Annotated[
    dict[str, str] | None, Field(description="Files beside the program, text by name, such as {'data.csv': '1,2'}.")
]
Seconds = Annotated[
    float | None, Field(description="Time limit in seconds. Default: the sandbox's own.", gt=0, le=_LONGEST_RUN)
]


class NADTools:
    """The tools with what they share; cancelling a call stops the generation or the program.

    Args:
        decoder: Writes and ranks the candidates, once it has been loaded.
        sandbox: Runs the code.
    """

    def __init__(self, decoder: Future[NeuronAgreementDecoder], sandbox: Sandbox) -> None:
        self._decoder = decoder
        self._sandbox = sandbox

    async def best_of_n(
        self,
        prompt: Prompt,
        ctx: Context,
        n: N = None,
        selector: SelectorName = None,
        temperature: Temperature = None,
        max_new_tokens: MaxNewTokens = None,
        seed: Seed = None,
        verify: Verify = False,
        tests: AlsoVerifies = None,
        include_candidates: IncludeCandidates = False,
    ) -> BestOfN:
        """Let a local model write several answers to a prompt, and return the best one with why it was chosen.

        The answers are compared by the neurons that they activate in the model. For Python code, set verify: the code
        is then run in a sandbox.
        """
        with _as_tool_errors():
            decoder = await self._loaded()
            verifier = self._verifier(tests) if verify or tests is not None else None
            given = {"n": n, "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
            if temperature == 0 and n is None:
                given["n"] = 1  # greedy decoding has one answer
            changes = {name: value for name, value in given.items() if value is not None}
            sampling = SamplingConfig(**{**dict(decoder.sampling), **changes})
            config = self._config(decoder.config, selector, n=sampling.n, runs_code=verifier is not None)

            def submit() -> PendingRequest:
                return decoder.submit([prompt], sampling=sampling, config=config, verifier=verifier, streaming=True)[0]

            pending = await submit_in_thread(submit)
            async with aclosing(pending.aevents()) as events:
                async for event in events:
                    if isinstance(event, Progress):
                        message = f"{len(event.live)} of {sampling.n} candidates are being written"
                        await ctx.report_progress(event.generated, sampling.n * sampling.max_new_tokens, message)
                    elif isinstance(event, Finished):
                        selection = event.selection
            return _best_of_n(selection, include_candidates=include_candidates)

    async def check_code(
        self, code: Code, tests: Tests = None, task: Task = "", entry_point: EntryPoint = None
    ) -> CodeCheck:
        """Check Python code in a sandbox: it compiles, it loads, and it passes the examples of the task and the tests.

        A program cannot fake a pass by exiting early, patching asserts or printing "passed".
        """
        with _as_tool_errors():
            verifier = self._verifier(tests, entry_point)
            # a check that nobody waits for any more ends at the sandbox's time limit
            report = await to_thread.run_sync(lambda: verifier.verify(code, prompt=task), abandon_on_cancel=True)
        return CodeCheck.model_validate(report.to_dict())

    async def run_python(
        self, code: Program, stdin: StandardInput = "", files: Files = None, timeout: Seconds = None
    ) -> ProgramRun:
        """Run a Python program in a fresh sandbox without network, and return what it printed and how it ended.

        Nothing is kept from one run to the next. A program that fails is a result, and no error of the tool.
        """
        with _as_tool_errors():
            result = await self._sandbox.arun_python(code, stdin=stdin, files=files, timeout=timeout)
        return ProgramRun.model_validate({**result.to_dict(), "ok": result.ok})

    async def _loaded(self) -> NeuronAgreementDecoder:
        """Wait until the model has been loaded, however many calls give up meanwhile."""
        return await asyncio.shield(asyncio.wrap_future(self._decoder))

    def _verifier(self, tests: str | None, entry_point: str | None = None) -> Verifier:
        from nad_sandbox import CodeVerifier

        try:
            return CodeVerifier(self._sandbox, tests=tests, entry_point=entry_point)
        except ValueError as error:
            raise ToolError(str(error)) from error

    def _config(self, config: NADConfig, selector: str | None, *, n: int, runs_code: bool) -> NADConfig:
        """Return the decoder's config with the selector of a call, which gets the sandbox if it may run code."""
        changes: dict[str, Any] = {}
        if n == 1 and selector is None:
            changes = {"selector": "first", "selector_options": {}, "pruning": "never"}
        elif selector not in {None, config.selector}:
            # the decoder's options are those of its own selector
            changes = {"selector": selector, "selector_options": {}}
        chosen = changes.get("selector", config.selector)
        if chosen in BEHAVIOUR_SELECTORS or (chosen == "auto" and runs_code):
            from nad_sandbox import BehaviourRunner

            changes["selector_options"] = {"runner": BehaviourRunner(self._sandbox)}
        # dumping a config would take the objects among a selector's options apart
        return NADConfig(**{**dict(config), **changes})


def _best_of_n(selection: Selection, *, include_candidates: bool) -> BestOfN:
    verdict = selection.best.verdict or {}
    return BestOfN(
        text=selection.text,
        verified=selection.verified,
        feedback="" if selection.verified else str(verdict.get("feedback", "")),
        model=selection.model,
        evidence=evidence(selection, include_candidates=include_candidates),
    )


@contextmanager
def _as_tool_errors() -> Iterator[None]:
    """Let the assistant read the errors that say what to do; of all others it learns only that the tool failed."""
    from nad_sandbox import SandboxError

    try:
        yield
    except (NADError, SandboxError) as error:
        raise ToolError(str(error)) from error
