"""The scripts of the documentation, which are in no package, as modules."""

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "scripts"


def load(name):
    """Import a script of the documentation by its name."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dependencies = load("dependencies")
hooks = load("hooks")
reference = load("reference")
