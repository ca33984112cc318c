"""LangChain models that run locally and choose every answer among N candidates by neuron agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_nad.callbacks import PROGRESS_EVENT
from langchain_nad.chat_models import NADChatModel
from langchain_nad.errors import CodeRejectedError, PromptOverflowError
from langchain_nad.llms import NADLLM
from langchain_nad.step_selection import nad_step_node
from nad_agents._version import __version__
from nad_agents.chat.shared_decoders import unload_models
from nad_agents.exceptions import AnswerCutError, GenerationTimeoutError
from nad_agents.lazy_imports import lazy_imports

if TYPE_CHECKING:
    from langchain_nad.code_repair import CodeRepair
    from langchain_nad.sandbox import PythonSandboxTool, SandboxVerifier
    from langchain_nad.sandbox_backend import NADSandbox
    from langchain_nad.step_middleware import NADStepSelection

__all__ = [
    "NADLLM",
    "PROGRESS_EVENT",
    "AnswerCutError",
    "CodeRejectedError",
    "CodeRepair",
    "GenerationTimeoutError",
    "NADChatModel",
    "NADSandbox",
    "NADStepSelection",
    "PromptOverflowError",
    "PythonSandboxTool",
    "SandboxVerifier",
    "__version__",
    "nad_step_node",
    "unload_models",
]

# these need LangChain's agents, deep agents or the sandbox
__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "CodeRepair": "langchain_nad.code_repair",
        "NADSandbox": "langchain_nad.sandbox_backend",
        "NADStepSelection": "langchain_nad.step_middleware",
        "PythonSandboxTool": "langchain_nad.sandbox",
        "SandboxVerifier": "langchain_nad.sandbox",
    },
    missing={
        "deepagents": "{name} needs deepagents; install it with: pip install 'nad-agents[deepagents]'",
        "langchain": "{name} needs LangChain's agents; install them with: pip install langchain",
    },
)
