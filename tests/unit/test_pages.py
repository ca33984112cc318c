"""The pages for those who carry on name what is there, and the configured tools run what they say."""

import datetime as dt
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from nad_agents import __version__
from tests.unit.docs_scripts import hooks, reference

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "CONTRIBUTING.md", ROOT / "RELEASING.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("benchmarks/**/*.md"), *ROOT.glob("examples/**/*.md")]
SITE = sorted((ROOT / "docs").rglob("*.md"))
PAGES = sorted({*GUIDES, *OTHERS, *SITE})
PATH = re.compile(r"`(\.?[\w-]+(?:/[\w.-]+)*/|(?:\.?[\w-]+/)*[\w.-]*\.(?:md|py|sh|toml|txt)|\.ci/run)`")
NAME_IN_FILE = re.compile(r"`(\w+)`(?: and (?:to the fixture )?`(\w+)`)? (?:of|in)\s+`([\w./-]+\.py)`")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_path_that_a_guide_names_exists(page):
    paths = PATH.findall(page.read_text(encoding="utf-8"))
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_guide_to_changes_names_many_files():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(set(PATH.findall(text))) > 30
    for subject in ("A selector", "An architecture", "An engine", "A tool format", "A sandbox backend"):
        section = text.split(f"### {subject}\n")[1].split("\n#")[0]
        assert len(PATH.findall(section)) >= 4, subject


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_a_name_that_a_guide_finds_in_a_file_is_there(page):
    for *names, path in NAME_IN_FILE.findall(page.read_text(encoding="utf-8")):
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not [name for name in names if not re.search(rf"\b{name}\b", source)], path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_to_elsewhere_is_an_address(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((\w+:[^)\s]*)\)", text):
        address = urlsplit(link)
        assert address.scheme == "https", link
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", address.netloc), link


def commands_of(page):
    """The arguments of every `nad` in the shell blocks of a page."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fences if language in {"", "sh"}]
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if re.search(r"(^|\| )nad ", line.strip()) else []
        while "nad" in words:
            words = words[words.index("nad") + 1 :]
            end = next((i for i, word in enumerate(words) if word in {"|", ">", ">>", "&&", ";"}), len(words))
            yield words[:end]


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands_of(page))], ids=name_of)
def test_every_command_on_a_page_is_one_that_nad_understands(page):
    parsers = dict(reference.commands())
    for name, *arguments in commands_of(page):
        if name == "--version":
            continue
        # parses and checks the arguments, and runs nothing
        parsers[name].make_context(name, arguments)


def test_the_pages_show_many_commands():
    shown = [arguments[0] for page in PAGES for arguments in commands_of(page)]
    assert len(shown) > 20
    assert {"ask", "code", "bench", "select", "report", "doctor", "serve"} <= set(shown)


def test_every_page_of_the_site_is_in_its_navigation():
    # mkdocs has tags of its own, such as those for hooks
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {page.relative_to(ROOT / "docs").as_posix() for page in SITE} == named


def test_every_diagram_has_a_picture_of_its_present_source():
    sources = [source for page in SITE for source in hooks.MERMAID.findall(page.read_text(encoding="utf-8"))]
    pictures = {picture.name for picture in (ROOT / "docs" / "diagrams").glob("*.svg")}
    assert {hooks.diagram_name(source) for source in sources} == pictures, "run: make diagrams"


def test_hooks_and_workflow_run_the_tools_of_the_project():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {repository["repo"] for repository in hooks} == {"local"}
    commands = {hook["entry"].split()[0] for repository in hooks for hook in repository["hooks"]}
    assert commands == {".venv/bin/ruff", ".venv/bin/mypy"}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["steps"][-1]["run"] == ".ci/run"
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert checks.index("make lint") < checks.index("make docs") < checks.index("make test")


def test_the_changelog_lists_the_version_of_the_package_below_what_is_not_released():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    version, date = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", headings[1]).groups()
    assert version == __version__
    dt.date.fromisoformat(date)
