"""An object is whole, or the caller hears that there is none."""

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

from tests.unit.langchain.chats import json_decoder, tiny_chat
from tests.unit.langchain.tools import PersonDict


class Defaults(BaseModel):
    """All of which may be left out."""

    name: str = "nobody"
    age: int = 0


class DefaultsV1(BaseModelV1):
    """All of which may be left out."""

    name: str = "nobody"
    age: int = 0


SCHEMAS = [Defaults, DefaultsV1, PersonDict, Defaults.model_json_schema()]
METHODS = ["json_schema", "function_calling", "json_mode"]


@pytest.fixture(scope="module")
def decoder():
    return json_decoder()


@pytest.fixture
def cut(decoder):
    """Answers end before the last bracket."""
    return tiny_chat(decoder=decoder, max_tokens=44, n=2, pruning="first_chunk", chunk_size=4, stop=["}"])


each_parser = pytest.mark.parametrize(
    ("schema", "method"),
    [
        (Defaults, "json_schema"),
        (PersonDict, "json_schema"),
        (DefaultsV1, "function_calling"),
        (PersonDict, "function_calling"),
    ],
)


class TestCut:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("schema", SCHEMAS, ids=["v2", "v1", "dict", "json"])
    def test_an_error(self, cut, schema, method):
        chain = cut.with_structured_output(schema, method=method)
        with pytest.raises(OutputParserException, match=r"no whole .*finish_reason='stop'.*leave out stop strings"):
            chain.invoke("hello")
        with pytest.raises(OutputParserException, match="no whole"):
            list(chain.stream("hello"))

    @each_parser
    async def test_without_blocking(self, cut, schema, method):
        chain = cut.with_structured_output(schema, method=method)
        with pytest.raises(OutputParserException, match="no whole"):
            async for _ in chain.astream("hello"):
                pass

    @each_parser
    def test_beside_the_raw_message(self, cut, schema, method):
        chain = cut.with_structured_output(schema, method=method, include_raw=True)
        parts = list(chain.stream("hello"))
        for found in (chain.invoke("hello"), sum(parts[1:], parts[0])):
            assert found["parsed"] is None
            assert isinstance(found["parsing_error"], OutputParserException)
            assert found["raw"].response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("method", METHODS)
async def test_the_raw_message_streams_while_it_is_written(decoder, method):
    chat = tiny_chat(decoder=decoder, max_tokens=44, n=2, pruning="first_chunk", chunk_size=4)
    chain = chat.with_structured_output(PersonDict, method=method, include_raw=True)
    for parts in (list(chain.stream("hello")), [part async for part in chain.astream("hello")]):
        assert sum("raw" in part for part in parts) > 5
        assert set(sum(parts[1:], parts[0])["parsed"]) == {"name", "age"}
