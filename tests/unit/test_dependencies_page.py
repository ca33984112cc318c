"""The page of dependencies has every package that the project asks for, and no other."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def names(requirements):
    return {Requirement(text).name for text in requirements} - {"nad-agents"}


def test_every_package_is_on_the_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text(encoding="utf-8")
    always, extras = page.split("## Extras")
    cells = re.findall(r"^\| ([\w, -]+?) \|", always, re.MULTILINE)
    listed = {name.strip() for cell in cells for name in cell.split(",")} - {"package"}
    assert listed == names(project["dependencies"])
    found = {}
    for extra, cell in re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", extras, re.MULTILINE):
        found.setdefault(extra, set()).update(name.strip() for name in cell.split(","))
    wanted = {extra: names(packages) for extra, packages in project["optional-dependencies"].items()}
    assert found == {extra: packages for extra, packages in wanted.items() if packages}
