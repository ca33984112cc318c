"""Print what `nad-agents[all]` brings into this environment, a requirement per line: docs/scripts/dependencies.py.

With `--names` the versions are left out. `make licenses` and `make sbom` use it, so that the tools of development,
which are in the same environment, are not taken for dependencies. With `--complete FILE` a bill of materials in
CycloneDX' JSON that was made from these lines gets what they do not say: the project's version, and which package asks
for which.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "nad-agents"


def dependencies(name: str = ROOT, extras: frozenset[str] = frozenset({"all"})) -> dict[str, set[str]]:
    """Return all distributions that one brings into this environment, itself included, each with those it asks for.

    Args:
        name: The distribution's name.
        extras: Its extras that are wanted.
    """
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(name, extras)]
    while todo:
        name, extras = todo.pop()
        new = {(name, extra) for extra in (extras or {""})} - seen
        seen |= new
        try:
            requirements = [Requirement(text) for text in distribution(name).requires or ()] if new else []
        except PackageNotFoundError:
            # an extra of somebody else's that is not installed
            continue
        asked = found.setdefault(name, set())
        for requirement in requirements:
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for _, extra in new):
                other = canonicalize_name(requirement.name)
                asked.add(other)
                todo.append((other, frozenset(requirement.extras)))
    return {name: (asked & found.keys()) - {name} for name, asked in found.items()}


def complete(bill: dict[str, Any]) -> None:
    """Add the project's version and the graph of dependencies to a bill of materials.

    Args:
        bill: The document, as `cyclonedx-py requirements` writes it; changed in place.
    """
    root = bill["metadata"]["component"]
    root["version"] = version(ROOT)
    references = {canonicalize_name(component["name"]): component["bom-ref"] for component in bill["components"]}
    references[ROOT] = root["bom-ref"]
    bill["dependencies"] = [
        {"ref": references[name], "dependsOn": sorted(references[other] for other in asked)}
        for name, asked in sorted(dependencies().items())
    ]


def main() -> None:
    """Print the requirements, sorted by name, or complete a bill of materials."""
    if "--complete" in sys.argv:
        path = Path(sys.argv[-1])
        bill = json.loads(path.read_text(encoding="utf-8"))
        complete(bill)
        path.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
        return
    for name in sorted(dependencies().keys() - {ROOT}):
        pinned = f"{name}=={version(name).partition('+')[0]}"
        sys.stdout.write(f"{name if '--names' in sys.argv else pinned}\n")


if __name__ == "__main__":
    main()
