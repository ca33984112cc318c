"""LlamaIndex models over a tiny random model, for tests without weights."""

from typing import Literal

from llama_index.llms.nad import NADLLM
from pydantic import BaseModel, Field

from tests.unit.langchain.chats import NEURONS, SAMPLING, json_decoder, tiny_decoder


def tiny_llm(**options):
    options = {"decoder": None, **SAMPLING, **NEURONS, **options}
    options["decoder"] = options["decoder"] or tiny_decoder()
    return NADLLM(**options)


def roomy_llm(**options):
    """With a context that holds schemas and descriptions of tools, and tokens for what calls and objects consist of."""
    return tiny_llm(**{"decoder": json_decoder(), "max_tokens": 44, **options})


class Song(BaseModel):
    """A song."""

    name: str = Field(max_length=12)
    year: int = Field(ge=1900, le=2100)
    kind: Literal["waltz", "polka"]
