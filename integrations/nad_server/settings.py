"""What an operator decides about a server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["ServerSettings"]


class ServerSettings(BaseModel):
    """How a server serves; what a request may change is not here.

    Attributes:
        api_keys: a request must bring one of these as its bearer token; empty lets everybody in.
        model_names: names that the model answers to, the first being the one that is listed.
        max_tokens: token limit of an answer whose request sets none; less where the context is full before.
        max_candidates: no request may sample more candidates than this.
        max_rows: candidates that are in the batch at a time; that of the decoder.
        max_prompt_tokens: longest prompt; None allows what the context holds.
        max_body_bytes: longest request body.
        max_prompts: prompts in one request to /v1/completions.
        max_waiting: requests that wait for a place in the batch; further ones get 429.
        min_temperature: requests that ask for less get this much. Coding assistants ask for 0 of their own accord,
            and greedy decoding has one candidate, among which there is nothing to choose. 0 leaves it as asked.
        keep_alive_seconds: a stream is never silent for longer.
        shutdown_seconds: how long running requests may go on after the signal to stop.
        hosts: names under which the server may be addressed, without port; empty allows every name. A web page whose
            name is made to lead to this machine could otherwise use a server that only this machine can reach.
        cors_origins: web pages from these origins may use the server.
        ui: serve the page at /ui.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys: tuple[str, ...] = ()
    model_names: tuple[str, ...] = ()
    max_tokens: int = Field(default=1024, ge=1)
    max_candidates: int = Field(default=64, ge=1)
    max_rows: int = Field(default=128, ge=1)
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    max_body_bytes: int = Field(default=4 * 2**20, ge=1)
    max_prompts: int = Field(default=32, ge=1)
    max_waiting: int = Field(default=64, ge=1)
    min_temperature: float = Field(default=0.0, ge=0, le=2)
    keep_alive_seconds: float = Field(default=10.0, gt=0)
    shutdown_seconds: float = Field(default=30.0, ge=0)
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    ui: bool = False

    @field_validator("api_keys")
    @classmethod
    def _keys_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not key.strip() for key in value):
            msg = "an API key is empty, which would let everybody in; give one, or none at all"
            raise ValueError(msg)
        return value
