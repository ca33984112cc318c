"""The structured results of the tools, from which their output schemas are made."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

__all__ = ["BestOfN", "CodeCheck", "ProgramRun"]


class BestOfN(BaseModel):
    """The result of the tool `best_of_n`."""

    text: str = Field(description="The chosen answer.")
    verified: bool | None = Field(
        description="Whether the code of the answer passed its checks in the sandbox; null if no code was checked."
    )
    feedback: str = Field(description="Why the code fails, if no candidate passed; else empty.")
    model: str = Field(description="Name of the model that wrote the candidates.")
    evidence: dict[str, Any] = Field(
        description="Why this answer was chosen: selector, scores, ranking, confidence, tokens, seed and times."
    )


class CodeCheck(BaseModel):
    """The result of the tool `check_code`."""

    passed: bool = Field(description="Whether every check passed.")
    feedback: str = Field(description="The failed check, with the expected and the actual value; empty if all passed.")
    checks: list[dict[str, Any]] = Field(description="Each check with its result; none is run after the first failure.")
    trust: str | None = Field(
        description="separate: a process without any part of the program made the verdict. same_process: the program's "
        "own process made it. null: nothing was run."
    )
    python_version: str = Field(description="Version of the Python that ran the program.")
    duration: float = Field(description="Seconds in the sandbox.")


class ProgramRun(BaseModel):
    """The result of the tool `run_python`."""

    ok: bool = Field(description="Whether the program exited with status 0 within its limits.")
    returncode: int | None = Field(description="Exit status; null if a limit ended the program.")
    stdout: str = Field(description="Standard output; beyond a limit its middle is left out.")
    stderr: str = Field(description="Standard error, kept like the standard output.")
    timed_out: bool = Field(description="Whether the time limit ended the program.")
    oom_killed: bool = Field(description="Whether the memory limit ended the program.")
    output_truncated: bool = Field(description="Whether the program wrote more than was kept.")
    python_version: str = Field(description="Version of the sandbox's Python.")
    duration: float = Field(description="Seconds that the program ran.")
