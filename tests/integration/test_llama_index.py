"""The LlamaIndex model on the real default model, after the list of LlamaIndex's own integrations."""

from typing import Annotated

import pytest
from llama_index.core import Document, Settings, SimpleKeywordTableIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.selectors import PydanticMultiSelector, PydanticSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool
from llama_index.llms.nad import NADLLM, NADQuestionGenerator, NADSelector
from pydantic import BaseModel, Field

HELLO = [ChatMessage(role="user", content="What is the capital of France?")]


class Song(BaseModel):
    """A song with name and artist."""

    artist_name: str = Field(description="The name of the artist", max_length=30)
    song_name: str = Field(description="The name of the song", max_length=30)


def generate_song(
    artist_name: Annotated[str, "The name of the artist"], song_name: Annotated[str, "The name of the song"]
) -> Song:
    """Generates a song with provided name and artist."""
    return Song(artist_name=artist_name[:30], song_name=song_name[:30])


TOOL = FunctionTool.from_defaults(fn=generate_song)
ASKED = "Hello! Generate a random artist and song."
PROMPT = PromptTemplate("A song about {topic}.")


@pytest.fixture(scope="module")
def llm(default_decoder):
    return NADLLM(decoder=default_decoder, n=3, max_tokens=40, temperature=0.2, seed=3)


def check_call(llm, response):
    (call,) = llm.get_tool_calls_from_response(response)
    assert call.tool_name == TOOL.metadata.name
    assert isinstance(TOOL(**call.tool_kwargs).raw_output, Song)


def test_chat_and_complete(llm):
    answer = llm.chat(HELLO)
    assert "Paris" in answer.message.content
    assert answer.raw["nad"]["n"] == 3
    assert llm.complete(HELLO[0].content).text == answer.message.content


def test_streams(llm):
    for pieces in (llm.stream_chat(HELLO), llm.stream_complete(HELLO[0].content, pruning="first_chunk")):
        found = list(pieces)
        assert all(piece.delta is not None and str(piece).strip() for piece in found)
        assert found[-1].raw["usage"]["completion_tokens"] > 0


async def test_async(llm):
    assert "Paris" in (await llm.achat(HELLO)).message.content
    assert "Paris" in (await llm.acomplete(HELLO[0].content)).text
    for pieces in (await llm.astream_chat(HELLO), await llm.astream_complete(HELLO[0].content)):
        found = [piece async for piece in pieces]
        assert "Paris" in "".join(piece.delta for piece in found)


async def test_chat_with_tools(llm):
    asked = {"user_msg": ASKED, "tool_required": True, "max_tokens": 80}
    check_call(llm, llm.chat_with_tools([TOOL], **asked))
    check_call(llm, await llm.achat_with_tools([TOOL], **asked))


async def test_structured_predict(llm):
    options = {"max_tokens": 80}
    assert isinstance(llm.structured_predict(Song, PROMPT, options, topic="rain"), Song)
    assert isinstance(await llm.astructured_predict(Song, PROMPT, options, topic="rain"), Song)
    assert isinstance(list(llm.stream_structured_predict(Song, PROMPT, options, topic="rain"))[-1], Song)
    assert isinstance(llm.as_structured_llm(Song).complete("A song about rain.", **options).raw, Song)


def test_a_query_engine(llm):
    counter = TokenCountingHandler(tokenizer=str.split)
    before, Settings.callback_manager = Settings.callback_manager, CallbackManager([counter])
    try:
        documents = [Document(text="The pool closes at six."), Document(text="The library is in Green Street.")]
        splitter = SentenceSplitter(chunk_size=50, chunk_overlap=5, tokenizer=str.split)
        index = SimpleKeywordTableIndex.from_documents(documents, llm=llm, transformations=[splitter])
        answer = index.as_query_engine(llm=llm, retriever_mode="simple").query("In which street is the library?")
    finally:
        Settings.callback_manager = before
    assert "Green Street" in str(answer)
    assert [found.text for found in answer.source_nodes] == ["The library is in Green Street."]
    assert counter.prompt_llm_token_count > 20
    assert counter.completion_llm_token_count > 5


class Fact(CustomQueryEngine):
    """Answers with one fact."""

    fact: str

    def custom_query(self, query_str):
        return self.fact


def engine_tools():
    return [
        QueryEngineTool.from_defaults(Fact(fact=fact), name=name, description=description)
        for name, description, fact in (
            ("buses", "Knows when buses go.", "The bus goes at noon."),
            ("library", "Knows the library and its books.", "The library is in Green Street."),
        )
    ]


@pytest.mark.parametrize("most", [1, None])
async def test_a_router_asks_an_engine_that_there_is(llm, most):
    llm = llm.model_copy(update={"max_tokens": 100})
    selector = NADSelector(llm, max_outputs=most)
    engine = RouterQueryEngine.from_defaults(engine_tools(), llm=llm, selector=selector)
    for question in ("When does the bus go?", "Where is the library?"):
        answer = await engine.aquery(question)
        assert str(answer).strip()
        assert {0, 1} >= set(answer.metadata["selector_result"].inds)


@pytest.mark.parametrize("kind", [PydanticSingleSelector, PydanticMultiSelector])
def test_selectors_of_llama_index_get_an_object(llm, kind):
    result = kind.from_defaults(llm=llm.model_copy(update={"max_tokens": 100})).select(["buses", "books"], "Any bus?")
    assert all(isinstance(index, int) for index in result.inds)


@pytest.mark.parametrize("use_async", [False, True])
def test_a_question_is_divided_among_tools_that_there_are(llm, use_async):
    llm = llm.model_copy(update={"max_tokens": 120})
    engine = SubQuestionQueryEngine.from_defaults(
        engine_tools(),
        llm=llm,
        question_gen=NADQuestionGenerator(llm, max_questions=2),
        use_async=use_async,
        verbose=False,
    )
    answer = engine.query("When does the bus to the library go, and where is the library?")
    assert 1 <= len(answer.source_nodes) <= 2
    assert all(node.text.startswith("Sub question: ") for node in answer.source_nodes)
