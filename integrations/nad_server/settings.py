"""The settings of a server: what its operator decides and no request can change."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nad_agents.config_fields import MAX_ROWS_DESCRIPTION

__all__ = ["ServerSettings"]


class ServerSettings(BaseModel):
    """How a server treats requests; each field's description says what it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys: tuple[str, ...] = Field(
        default=(),
        description="API keys, one of which each request must bring as its bearer token; empty admits everybody.",
    )
    model_names: tuple[str, ...] = Field(
        default=(),
        description="Names under which the model can be requested; empty means the name that the decoder gives it.",
    )
    max_tokens: int = Field(
        default=16_384,
        ge=1,
        description="Token limit of an answer whose request sets none, as far as context and memory have room.",
    )
    max_candidates: int = Field(default=64, ge=1, description="Most candidates that one request may sample.")
    max_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(default="auto", description=MAX_ROWS_DESCRIPTION)
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="Longest prompt in tokens; None allows what the model's context holds."
    )
    max_body_bytes: int = Field(default=4 * 2**20, ge=1, description="Longest request body in bytes.")
    max_prompts: int = Field(default=32, ge=1, description="Most prompts in one request to /v1/completions.")
    max_waiting: int = Field(
        default=64,
        ge=1,
        description="Most requests that wait for their turn; further ones are refused with status 429.",
    )
    min_temperature: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="Lower temperatures are raised to this. Coding assistants ask for 0, which gives one greedy "
        "candidate and nothing to choose from.",
    )
    keep_alive_seconds: float = Field(
        default=10.0, gt=0, description="Seconds of silence after which a stream sends a keep-alive."
    )
    shutdown_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that running requests may go on after the signal to stop; then they are ended.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names without port by which requests may address the server; empty allows every name. On "
        "a server for one machine alone they keep out web pages whose name is made to lead to that machine.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="Origins whose web pages may use the server, such as https://example.org."
    )
    ui: bool = Field(default=False, description="Serve a page at /ui on which the candidates can be watched.")

    @field_validator("api_keys")
    @classmethod
    def _keys_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not key.strip() for key in value):
            msg = "an API key is empty, which would let everybody in; give one, or none at all"
            raise ValueError(msg)
        return value
