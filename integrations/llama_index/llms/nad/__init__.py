"""A LlamaIndex model that runs locally and chooses every answer among N candidates by neuron agreement."""

from __future__ import annotations

try:
    from llama_index.llms.nad.base import NADLLM
    from llama_index.llms.nad.question_gen import NADQuestionGenerator
    from llama_index.llms.nad.selectors import NADSelector
    from llama_index.llms.nad.structured import StructuredOutputError
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("llama_index.core"):
        raise
    from nad_agents.exceptions import MissingDependencyError

    msg = f"llama_index.llms.nad needs {error.name}; install it with: pip install 'nad-agents[llama-index]'"
    raise MissingDependencyError(msg) from error

__all__ = ["NADLLM", "NADQuestionGenerator", "NADSelector", "StructuredOutputError"]
