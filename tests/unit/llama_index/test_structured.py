"""Objects of a class, always valid: whole, streamed, async, and through LlamaIndex's structured model."""

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode
from llama_index.llms.nad import StructuredOutputError
from pydantic import BaseModel, Field, field_validator

from nad_agents import ConfigurationError
from tests.unit.llama_index.models import Song, roomy_llm

PROMPT = PromptTemplate("A song about {topic}.")


class Unbounded(BaseModel):
    """Text without a limit."""

    text: str


class Even(BaseModel):
    """A number with a rule that no schema says."""

    number: int = Field(ge=1, le=1)

    @field_validator("number")
    @classmethod
    def _even(cls, value):
        if value % 2:
            raise ValueError("the number is odd")
        return value


@pytest.fixture(scope="module")
def llm():
    return roomy_llm()


def test_always_valid(llm):
    for seed in range(3):
        assert isinstance(llm.structured_predict(Song, PROMPT, {"seed": seed}, topic="cats"), Song)
        # closed in time where nothing in the schema ends it
        assert isinstance(
            llm.structured_predict(Unbounded, PROMPT, {"seed": seed, "max_tokens": 40}, topic="cats"), Unbounded
        )


async def test_the_same_object_in_every_form(llm):
    whole = llm.structured_predict(Song, PROMPT, topic="cats")
    assert await llm.astructured_predict(Song, PROMPT, topic="cats") == whole
    assert list(llm.stream_structured_predict(Song, PROMPT, topic="cats"))[-1] == whole
    streamed = [found async for found in await llm.astream_structured_predict(Song, PROMPT, topic="cats")]
    assert streamed[-1] == whole


def test_the_stream_shows_the_object_as_it_grows(llm):
    options = {"pruning": "first_chunk", "chunk_size": 4, "seed": 1}
    found = list(llm.stream_structured_predict(Song, PROMPT, options, topic="cats"))
    assert len(found) > 4
    assert not isinstance(found[0], Song)
    assert isinstance(found[-1], Song)
    names = [song.name for song in found if song.name]
    assert all(found[-1].name.startswith(name) for name in names)


# LlamaIndex's own streams call pydantic's old names
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
async def test_a_structured_model(llm):
    structured = llm.as_structured_llm(Song)
    asked = [ChatMessage("A song.")]
    whole = structured.chat(asked)
    assert isinstance(whole.raw, Song)
    assert Song.model_validate_json(whole.message.content) == whole.raw
    assert structured.complete("A song.").raw == whole.raw
    assert (await structured.achat(asked)).raw == whole.raw
    assert list(structured.stream_chat(asked))[-1].raw == whole.raw
    assert [piece async for piece in await structured.astream_chat(asked)][-1].raw == whole.raw


async def test_as_a_tool_where_the_program_mode_says_so(llm):
    by_tool = roomy_llm(decoder=llm.decoder, max_tokens=64, pydantic_program_mode=PydanticProgramMode.FUNCTION)
    assert isinstance(by_tool.structured_predict(Song, PROMPT, topic="cats"), Song)
    assert isinstance(await by_tool.astructured_predict(Song, PROMPT, topic="cats"), Song)


def test_the_schema_is_shown_and_the_arguments_of_programs_are_left_out(llm):
    prompt = ChatPromptTemplate(message_templates=[ChatMessage("A song about {topic}.")])
    asked = {"tool_required": True, "tool_choice": "x", "allow_parallel_tool_calls": True}
    assert llm.structured_predict(Song, prompt, asked, topic="cats") == llm.structured_predict(
        Song, PROMPT, topic="cats"
    )


def test_what_cannot_be_is_refused(llm):
    class Odd(BaseModel):
        """A pattern that looks back."""

        code: str = Field(json_schema_extra={"pattern": r"(?<=a)b"})

    with pytest.raises(ConfigurationError, match="schema of Odd cannot be turned into a grammar"):
        llm.structured_predict(Odd, PROMPT, topic="cats")
    with pytest.raises(ConfigurationError, match="raise max_tokens"):
        llm.structured_predict(Song, PROMPT, {"max_tokens": 8}, topic="cats")


def test_a_rule_of_the_class_alone(llm):
    with pytest.raises(StructuredOutputError, match="number: Value error, the number is odd"):
        llm.structured_predict(Even, PROMPT, topic="cats")
    with pytest.raises(StructuredOutputError, match="say the rule in the schema"):
        list(llm.stream_structured_predict(Even, PROMPT, topic="cats"))
