"""The pages for those who carry on name what is there, and the configured tools run what they say."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "CONTRIBUTING.md", ROOT / "RELEASING.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("benchmarks/**/*.md"), *ROOT.glob("examples/**/*.md")]
PAGES = [*GUIDES, *sorted(OTHERS)]
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


def test_hooks_and_workflow_run_the_tools_of_the_project():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {repository["repo"] for repository in hooks} == {"local"}
    commands = {hook["entry"].split()[0] for repository in hooks for hook in repository["hooks"]}
    assert commands == {".venv/bin/ruff", ".venv/bin/mypy"}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["steps"][-1]["run"] == ".ci/run"
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert checks.index("make lint") < checks.index("make test")
