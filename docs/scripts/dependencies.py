"""Print what `nad-agents[all]` brings into this environment, a requirement per line: docs/scripts/dependencies.py.

With `--names` the versions are left out. `make licenses` and `make sbom` use it, so that the tools of development,
which are in the same environment, are not taken for dependencies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "nad-agents"


def installed(name: str, extras: frozenset[str], seen: set[tuple[str, str]]) -> Iterator[Distribution]:
    """Yield the distribution of this name and, in turn, of everything that it asks for here.

    Args:
        name: The distribution's name.
        extras: Its extras that are wanted.
        seen: Names and extras that were looked at already.
    """
    todo = {(name, extra) for extra in (extras or {""})} - seen
    if not todo:
        return
    try:
        found = distribution(name)
    except PackageNotFoundError:
        # an extra of somebody else's that is not installed
        return
    seen |= todo
    yield found
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for _, extra in todo):
            yield from installed(canonicalize_name(requirement.name), frozenset(requirement.extras), seen)


def main() -> None:
    """Print the requirements, sorted by name."""
    found = {
        canonicalize_name(package.metadata["Name"]): package.version.partition("+")[0]
        for package in installed(ROOT, frozenset({"all"}), set())
    }
    del found[ROOT]
    for name, version in sorted(found.items()):
        sys.stdout.write(f"{name}\n" if "--names" in sys.argv else f"{name}=={version}\n")


if __name__ == "__main__":
    main()
