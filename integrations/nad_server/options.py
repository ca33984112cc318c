"""The options of `nad serve`, and what follows from them before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from nad_agents.cli.network_options import LOOPBACK, api_keys, is_loopback
from nad_agents.cli.options import DEFAULT_MODEL, SAMPLING, SandboxKind, engine_options
from nad_agents.config_fields import option_error
from nad_agents.exceptions import ConfigurationError
from nad_agents.types import EngineName, NADConfig, SamplingConfig
from nad_server.settings import ServerSettings

__all__ = ["ServeOptions"]

_SERVER = ServerSettings()
_REPEATABLE = ("name", "adapter", "api_key", "cors_origin", "engine_option")


class ServeOptions(BaseModel):
    """The options of `nad serve` under the same names; `nad serve --help` says what each does."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = DEFAULT_MODEL
    name: tuple[str, ...] = ()
    adapter: tuple[str, ...] = ()
    n: int = SAMPLING.n
    selector: str = "auto"
    early_stop: bool = False
    verify: SandboxKind | None = None
    propose_inputs: bool = False
    api_key: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    max_new_tokens: int = _SERVER.max_tokens
    temperature: float = SAMPLING.temperature
    min_temperature: float = _SERVER.min_temperature
    max_candidates: int = _SERVER.max_candidates
    max_prompt_tokens: int | None = _SERVER.max_prompt_tokens
    max_rows: int | Literal["auto"] = _SERVER.max_rows
    max_waiting: int = _SERVER.max_waiting
    shutdown_seconds: float = _SERVER.shutdown_seconds
    cors_origin: tuple[str, ...] = ()
    ui: bool = _SERVER.ui
    device: str = "auto"
    dtype: str = "auto"
    engine: EngineName = "hf"
    engine_option: tuple[str, ...] = ()
    url: str | None = None

    @field_validator(*_REPEATABLE, mode="before")
    @classmethod
    def _one_value(cls, value: Any) -> Any:
        """Take a single text for an option that may be given several times."""
        return (value,) if isinstance(value, str) else value or ()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Read options by name, as the command line or the arguments of an application have them.

        Without `api_key`, the key is that of the environment variable ``NAD_API_KEY``, if that is set.

        Raises:
            ConfigurationError: An option is unknown, or its value is of another kind.
        """
        keys = values.get("api_key")
        given = {**values, "api_key": api_keys([keys] if isinstance(keys, str) else keys)}
        try:
            return cls(**given)
        except ValidationError as error:
            raise option_error(error) from error

    @property
    def sampling(self) -> SamplingConfig:
        """How candidates are sampled where a request says nothing else."""
        return SamplingConfig(n=self.n, temperature=self.temperature, max_new_tokens=self.max_new_tokens)

    @property
    def config(self) -> NADConfig:
        """How candidates are compared where a request says nothing else."""
        return NADConfig(selector=self.selector, pruning="first_chunk" if self.early_stop else "never")

    @property
    def settings(self) -> ServerSettings:
        """What the operator decides.

        Raises:
            ConfigurationError: A value is out of bounds.
        """
        try:
            return ServerSettings(
                api_keys=self.api_key,
                model_names=self.name or _default_names(self.model),
                max_tokens=self.max_new_tokens,
                max_candidates=max(self.max_candidates, self.n),
                max_prompt_tokens=self.max_prompt_tokens,
                max_rows=self.max_rows,
                max_waiting=self.max_waiting,
                min_temperature=self.min_temperature,
                shutdown_seconds=self.shutdown_seconds,
                # with a key, a web page whose name is made to lead to this machine is refused anyway
                hosts=(*LOOPBACK, self.host) if is_loopback(self.host) and not self.api_key else (),
                cors_origins=self.cors_origin,
                ui=self.ui,
            )
        except ValidationError as error:
            raise option_error(error) from error

    @property
    def engine_options(self) -> dict[str, Any]:
        """Further options of the engine.

        Raises:
            ConfigurationError: See `nad_agents.cli.options.engine_options`.
        """
        return engine_options(self.engine, list(self.engine_option), self.url)

    def adapters(self) -> dict[str, str]:
        """Return the adapters by name.

        Raises:
            ConfigurationError: A value is not of the form NAME=ADAPTER, or a name is given twice.
        """
        return _parse_adapters(self.adapter)

    def check(self) -> None:
        """Refuse what cannot work, before anything is started.

        Raises:
            ConfigurationError: Options are wrong, or do not go together.
        """
        from nad_agents.selection import check_configuration

        if self.propose_inputs and self.verify is None:
            msg = "--propose-inputs are for programs that run in a sandbox; add --verify auto"
            raise ConfigurationError(msg)
        if self.adapters() and (self.engine == "openai" or self.url is not None):
            msg = (
                "--adapter cannot be sent to a server; load it there, and name the model that has it; for vLLM: vllm "
                "serve ... --enable-lora --lora-modules NAME=ADAPTER, and --engine-option served_name=NAME here"
            )
            raise ConfigurationError(msg)
        _ = self.settings, self.engine_options
        if self.verify is None:
            # with a sandbox there are more selectors, which are checked when it is open
            check_configuration(self.sampling, self.config)


def _parse_adapters(values: Sequence[str]) -> dict[str, str]:
    adapters: dict[str, str] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not name.strip() or not path.strip() or "@" in name or name in adapters:
            msg = f"--adapter {value!r}: write NAME=ADAPTER, each with another name, such as --adapter sql=./sql-lora"
            raise ConfigurationError(msg)
        adapters[name] = path
    return adapters


def _default_names(model: str) -> tuple[str, ...]:
    """Return the names of a model: a hub id with and without its owner, or the last part of a path.

    The whole path would tell clients about the folders of the server.
    """
    from nad_agents.models.folder import looks_like_path

    path = Path(model).expanduser()
    if looks_like_path(model) or path.exists():
        return (path.resolve().name.removesuffix(".gguf"),)
    return (model, model.rsplit("/", 1)[-1]) if "/" in model else (model,)
