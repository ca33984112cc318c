"""The unit tests lie where their subjects do, and share helpers instead of importing one another."""

import re

import pytest

from tests.unit.sources import PACKAGES, ROOT

UNIT = ROOT / "tests" / "unit"
SUBJECTS = {
    "langchain": PACKAGES["langchain_nad"],
    "llama_index": PACKAGES["llama_index.llms.nad"],
    "mcp": PACKAGES["nad_mcp"],
    "sandbox": PACKAGES["nad_sandbox"],
    "server": PACKAGES["nad_server"],
}


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent.relative_to(UNIT).as_posix() for path in UNIT.rglob("test_*.py")} - {"."}),
)
def test_a_folder_of_tests_has_the_name_of_its_subject(folder):
    room, _, inner = folder.partition("/")
    subject = SUBJECTS.get(room, PACKAGES["nad_agents"] / room) / inner
    assert (subject / "__init__.py").is_file()


def test_no_test_is_imported_by_another():
    importing = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*test_\w+", re.MULTILINE)
    found = [path for path in (ROOT / "tests").rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))]
    assert not found
