"""LlamaIndex models over a tiny random model, for tests without weights."""

from llama_index.llms.nad import NADLLM

from tests.unit.langchain.chats import NEURONS, SAMPLING, json_decoder, tiny_decoder


def tiny_llm(**options):
    options = {"decoder": None, **SAMPLING, **NEURONS, **options}
    options["decoder"] = options["decoder"] or tiny_decoder()
    return NADLLM(**options)


def roomy_llm(**options):
    """With a context that holds schemas and descriptions of tools, and tokens for what calls and objects consist of."""
    return tiny_llm(**{"decoder": json_decoder(), "max_tokens": 44, **options})
