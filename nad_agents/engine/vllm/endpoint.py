"""Routes of `vllm serve` through which another process fetches the data that the workers have recorded.

vLLM loads them by the entry point `nad_agents` of `vllm.endpoint_plugins` if the operator enables it:
`VLLM_PLUGINS=nad_agents vllm serve MODEL`.
"""

from __future__ import annotations

import base64
from typing import Any

__all__ = ["DESCRIBE_ROUTE", "FORGET_ROUTE", "TAKE_ROUTE", "NADEndpoint"]

# vLLM's --api-key guards what is below /v1, and no other routes of a plugin
DESCRIBE_ROUTE, TAKE_ROUTE, FORGET_ROUTE = "/v1/nad/model", "/v1/nad/take", "/v1/nad/forget"


class NADEndpoint:
    """An endpoint plugin of vLLM; see `vllm.plugins.endpoint_plugins.interface.EndpointPlugin`.

    Attributes:
        name: Name of the plugin.
        required_tasks: The kind of model that the routes are for.
    """

    name = "nad_agents"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._client: Any = None

    def attach_router(self, app: Any) -> None:
        """Add the routes to vLLM's FastAPI application."""
        app.add_api_route(DESCRIBE_ROUTE, self.describe, methods=["GET"])
        app.add_api_route(TAKE_ROUTE, self.take, methods=["POST"])
        app.add_api_route(FORGET_ROUTE, self.forget, methods=["POST"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:  # noqa: ARG002 - vLLM's signature
        """Keep the connection to the engine."""
        self._client = engine_client

    async def describe(self) -> dict[str, Any]:
        """Return whether the model can be recorded, and the sizes that the model's front end needs."""
        from vllm.platforms import current_platform

        described = (await self._client.collective_rpc("nad_describe"))[0]
        config = self._client.model_config
        return {
            **described,
            "device": str(current_platform.device_type),
            "chunked_prefill": bool(self._client.vllm_config.scheduler_config.enable_chunked_prefill),
            "model": str(config.model),
            "context_length": int(config.max_model_len),
            "vocabulary_size": int(config.get_vocab_size()),
            "architecture": str((config.hf_config.architectures or ["unknown"])[0]),
            "dtype": str(config.dtype).removeprefix("torch."),
        }

    async def take(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        """Return the data recorded for some requests since the last call, with bytes in base64."""
        taken = (await self._client.collective_rpc("nad_take", args=(keys,)))[0]
        return {
            key: {
                name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
                for name, value in recorded.items()
            }
            for key, recorded in taken.items()
        }

    async def forget(self, keys: list[str]) -> None:
        """Free the data kept for some requests."""
        await self._client.collective_rpc("nad_forget", args=(keys,))
