"""The MCP server: the tools with their annotations, and what an assistant is told about them."""

from __future__ import annotations

import inspect
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

from nad_agents._version import __version__
from nad_mcp.tools import NADTools

if TYPE_CHECKING:
    from nad_sandbox import Sandbox

    from nad_agents.decoder import NeuronAgreementDecoder

__all__ = ["create_server"]

_INSTRUCTIONS = (
    "A local model whose answers are the best of several candidates (best_of_n), and a sandbox without network for "
    "Python: check_code tests a program, run_python runs one."
)


def create_server(
    decoder: NeuronAgreementDecoder | Future[NeuronAgreementDecoder], *, sandbox: Sandbox
) -> MCPServer[Any]:
    """Return an MCP server with the tools `best_of_n`, `check_code` and `run_python`.

    Args:
        decoder: Writes and ranks the candidates. A future lets the server answer while the model is still loading, as
            assistants wait only some seconds for a server; calls of `best_of_n` then wait, and get the future's error.
        sandbox: Runs the code, such as `nad_sandbox.AutoSandbox`, which starts at its first use. The caller closes it.

    Returns:
        The server, to be run by its method `run`.
    """
    if not isinstance(decoder, Future):
        loaded: Future[NeuronAgreementDecoder] = Future()
        loaded.set_result(decoder)
        decoder = loaded
    tools = NADTools(decoder, sandbox)
    server: MCPServer[Any] = MCPServer(
        "nad-agents",
        title="nad-agents",
        instructions=_INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
    )
    # nothing outlives a call
    harmless = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
    for tool in (tools.best_of_n, tools.check_code, tools.run_python):
        server.add_tool(tool, description=inspect.getdoc(tool), annotations=harmless)
    return server
