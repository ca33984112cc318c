"""The messages that the page on troubleshooting names are those of the code."""

import re

import pytest

from tests.unit.sources import PACKAGES, ROOT

MESSAGES = re.findall(r'^### "(.+)"$', (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def code():
    texts = [path.read_text(encoding="utf-8") for folder in PACKAGES.values() for path in folder.rglob("*.py")]
    # a message may go on in the next line of the source
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts)).lower()


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_is_in_the_code(message, code):
    assert message.lower() in code


def test_the_page_has_many():
    assert len(MESSAGES) > 20
