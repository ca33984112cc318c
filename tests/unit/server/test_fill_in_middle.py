"""Filling in before a suffix, as each family of models was trained to."""

import openai
import pytest
from nad_server.errors import APIError
from nad_server.fill_in_middle import fill_in_middle_prompt
from tokenizers.processors import TemplateProcessing

from nad_agents.prompt import encode_prompt
from nad_agents.testing import byte_tokenizer
from tests.tiny_models import make_model
from tests.unit.engine.hf.sentencepiece import sentencepiece_tokenizer
from tests.unit.server.servers import http, make_app

QWEN = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
CODESTRAL = ["[SUFFIX]", "[PREFIX]"]
FAMILIES = {
    "qwen": (QWEN, "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
    "starcoder": (["<fim_prefix>", "<fim_suffix>", "<fim_middle>"], "<fim_prefix>a<fim_suffix>b<fim_middle>"),
    "santacoder": (["<fim-prefix>", "<fim-suffix>", "<fim-middle>"], "<fim-prefix>a<fim-suffix>b<fim-middle>"),
    "deepseek": (
        ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
        "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>",
    ),
    "codellama": (["▁<PRE>", "▁<SUF>", "▁<MID>"], "▁<PRE>a▁<SUF>b▁<MID>"),
    "seed": (["<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>"], "<[fim-suffix]>b<[fim-prefix]>a<[fim-middle]>"),
    "codegeex": (
        ["<|code_suffix|>", "<|code_prefix|>", "<|code_middle|>"],
        "<|code_suffix|>b<|code_prefix|>a<|code_middle|>",
    ),
    "codestral": ([*CODESTRAL, "[MIDDLE]"], "[SUFFIX]b[PREFIX]a"),
}


def tokenizer_with(marks):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    return tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_gets_its_own_marks_each_one_token(family):
    marks, expected = FAMILIES[family]
    tokenizer = tokenizer_with(marks)
    text = fill_in_middle_prompt(tokenizer, "a", "b")
    assert text == expected
    ids = tokenizer(text)["input_ids"]
    used = [mark for mark in marks if mark in text]
    assert len(ids) == len(used) + len("ab")


def test_braces_in_code_are_code():
    found = fill_in_middle_prompt(tokenizer_with(CODESTRAL), "{suffix}{0}", "{prompt}")
    assert found == "[SUFFIX]{prompt}[PREFIX]{suffix}{0}"


@pytest.mark.parametrize("special", [True, False], ids=["special", "added"])
@pytest.mark.parametrize("family", FAMILIES)
def test_marks_in_a_file_are_text(family, special):
    marks, expected = FAMILIES[family]
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(marks, special_tokens=special)
    before, after = f"MARKS = {marks[0]!r}, {marks[-1]!r}\n", f"assert {''.join(marks)!r}</s>\n"
    prompt = fill_in_middle_prompt(tokenizer, before, after)
    ids = encode_prompt(tokenizer, prompt, raw=True)
    used = [mark for mark in marks if mark in expected]
    assert sorted(token for token in tokenizer.convert_ids_to_tokens(ids) if token in used) == sorted(used)
    assert tokenizer.decode(ids) == prompt
    assert len(encode_prompt(tokenizer, str(prompt), raw=True)) < len(ids)


def test_what_the_tokenizer_puts_before_a_text_stays():
    tokenizer = sentencepiece_tokenizer()
    tokenizer.add_tokens(QWEN)
    begin = tokenizer.bos_token, tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    plain = encode_prompt(tokenizer, fill_in_middle_prompt(tokenizer, "a", "b"), raw=True)
    marked = encode_prompt(tokenizer, fill_in_middle_prompt(tokenizer, "a", "b<|fim_middle|>"), raw=True)
    assert plain.count(begin[1]) == marked.count(begin[1]) == 1
    assert plain[0] == marked[0] == begin[1]
    assert tokenizer.decode(marked).endswith("b<|fim_middle|><|fim_middle|>")


@pytest.mark.parametrize("family", FAMILIES)
def test_half_of_the_marks_are_none(family):
    marks, expected = FAMILIES[family]
    for missing in (mark for mark in marks if mark in expected):
        with pytest.raises(APIError) as refused:
            fill_in_middle_prompt(tokenizer_with([mark for mark in marks if mark != missing]), "a", "b")
        assert (refused.value.status, refused.value.param) == (400, "suffix")


@pytest.mark.parametrize(
    ("marks", "expected"),
    [(QWEN, "<|fim_prefix|>def f(<|fim_suffix|>):\n<|fim_middle|>"), (CODESTRAL, "[SUFFIX]):\n[PREFIX]def f(")],
)
async def test_the_gap_before_a_suffix_is_filled(marks, expected):
    tokenizer = tokenizer_with(marks)
    model = make_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512)
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.extend(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    asked = {"model": "tiny", "prompt": "def f(", "suffix": "):\n", "max_tokens": 8, "seed": 3}
    async with (
        http(make_app(model=model, tokenizer=tokenizer)) as wire,
        openai.AsyncOpenAI(base_url="http://server/v1", api_key="k", http_client=wire, max_retries=0) as client,
    ):
        whole = await client.completions.create(**asked, extra_body={"nad": {"n": 3}})
        chunks = [chunk async for chunk in await client.completions.create(**asked, stream=True)]
        without = await client.completions.create(**{**asked, "suffix": None})
    # the marks are one token each, and the first candidate's first step comes after the last of them
    length = len(marks) + len("def f(") + len("):\n")
    # what the recorder reads of a new model, to check it, comes before
    assert expected in tokenizer.decode(seen[: length + 8])
    assert whole.usage.prompt_tokens == length
    assert without.usage.prompt_tokens == len("def f(")
    (choice,) = whole.choices
    assert not any(text in choice.text for text in ("def f(", "):\n", *marks))
    assert whole.nad["n"] == 3
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


async def test_a_model_without_marks_refuses_a_suffix():
    async with http(make_app()) as wire:
        answer = await wire.post("/v1/completions", json={"model": "tiny", "prompt": "a", "suffix": "b"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "suffix", "unsupported_parameter")
    assert error["message"].startswith("suffix: ")
