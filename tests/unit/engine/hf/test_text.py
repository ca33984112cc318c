"""A candidate's text is what its tokens add to the prompt, spaces at its beginning included."""

import pytest
import torch
from transformers import LogitsProcessor

from nad_agents import SamplingConfig
from tests.tiny_models import byte_tokenizer
from tests.unit.engine.hf.sentencepiece import sentencepiece_tokenizer
from tests.unit.langchain.chats import one_layer_model, tiny_decoder


class Writes(LogitsProcessor):
    """Makes the model write certain tokens."""

    def __init__(self, tokens, prompt):
        self.tokens, self.prompt = tokens, prompt

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.prompt]] = 0
        return forced


def write(tokenizer, prompt, tokens, **options):
    decoder = tiny_decoder(one_layer_model(vocab_size=len(tokenizer)), tokenizer)
    sampling = SamplingConfig(n=2, temperature=1.0, max_new_tokens=len(tokens), seed=1, **options)
    length = len(tokenizer(prompt)["input_ids"])
    (pending,) = decoder.submit(
        [prompt], sampling=sampling, raw=True, logits_processors=lambda: [Writes(tokens, length)]
    )
    return pending.result()


def ids(tokenizer, *words):
    return tokenizer.convert_tokens_to_ids(list(words))


@pytest.mark.parametrize(
    "words", [["▁▁▁▁", "▁return", "▁", "1"], ["▁return", "▁", "1"], ["1", "▁return"], ["\n", "▁STOP"]]
)
def test_the_first_space_stays(words):
    tokenizer = sentencepiece_tokenizer()
    selection = write(tokenizer, "def f():", ids(tokenizer, *words))
    assert selection.text == "".join(words).replace("▁", " ")


def test_a_stop_string_may_be_the_first_token():
    tokenizer = sentencepiece_tokenizer()
    selection = write(tokenizer, "say", ids(tokenizer, "▁STOP", "▁", "1"), stop=[" STOP"])
    assert (selection.text, selection.best.finish_reason) == ("", "stop")


@pytest.mark.parametrize("text", [" a b", "a", "é x", "\n\n x"])
def test_other_tokenizers_give_the_same_text(text):
    tokenizer = byte_tokenizer()
    assert write(tokenizer, "é", tokenizer(text, add_special_tokens=False)["input_ids"]).text == text
