"""The page of dependencies has every package that the project asks for, and no other."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements):
    return {Requirement(text).name for text in requirements} - {"nad-agents"}


def test_every_package_is_on_the_page():
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text(encoding="utf-8")
    always, extras = page.split("## Extras")
    cells = re.findall(r"^\| ([\w, -]+?) \|", always, re.MULTILINE)
    listed = {name.strip() for cell in cells for name in cell.split(",")} - {"package"}
    assert listed == names(PROJECT["dependencies"])
    found = {}
    for extra, cell in re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", extras, re.MULTILINE):
        found.setdefault(extra, set()).update(name.strip() for name in cell.split(","))
    wanted = {extra: names(packages) for extra, packages in PROJECT["optional-dependencies"].items()}
    assert found == {extra: packages for extra, packages in wanted.items() if packages}


def test_the_first_page_has_every_extra_and_says_what_all_leaves_out():
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", page, re.MULTILINE))
    extras = PROJECT["optional-dependencies"]
    assert set(rows) == set(extras)
    (everything,) = map(Requirement, extras["all"])
    assert set(re.findall(r"`([\w-]+)`", rows["all"])) == set(extras) - everything.extras - {"all"}
