"""The reference pages say what the code has."""

import pytest

from tests.unit.docs_scripts import reference


@pytest.fixture(scope="module")
def pages():
    return reference.pages()


def test_the_pages_are_those_that_the_code_makes(pages):
    found = {name: (reference.FOLDER / name).read_text(encoding="utf-8") for name in pages}
    stale = [name for name in pages if pages[name] != found[name]]
    assert not stale, "run: make reference"


def test_the_pages_name_what_users_look_for(pages):
    assert "`max_new_tokens`" in pages["parameters.md"]
    assert "`model`" in pages["parameters.md"]
    assert "| `PROMPT` | required |" in pages["cli.md"]
    assert "`--api-key`" in pages["cli.md"]
    assert "`POST /v1/chat/completions`" in pages["server.md"]
    assert "`nad_tokens_total`" in pages["server.md"]
    assert "| `knn` |" in pages["selectors.md"]
    assert "            GenerationTimeoutError\n" in pages["errors.md"]
