"""Packages that import some of their names at the first use."""

import sys
from types import ModuleType

import pytest

from nad_agents.exceptions import MissingDependencyError
from nad_agents.lazy_imports import lazy_imports


@pytest.fixture
def package(monkeypatch):
    found = ModuleType("some_package")
    monkeypatch.setitem(sys.modules, "some_package", found)
    modules = {"sqrt": "math", "gone": "not_installed.inner", "broken": "not_known"}
    found.__all__ = ["sqrt", "gone", "broken"]
    found.__getattr__, found.__dir__ = lazy_imports(
        "some_package", modules, missing={"not_installed": "{name} needs not_installed"}
    )
    return found


def test_a_name_is_that_of_its_module(package):
    assert package.sqrt(4) == 2
    assert dir(package) == ["broken", "gone", "sqrt"]


def test_an_unknown_name_is_no_attribute(package):
    with pytest.raises(AttributeError, match=r"^module 'some_package' has no attribute 'cube'$"):
        _ = package.cube


def test_a_missing_package_says_how_to_install_it_if_it_is_optional(package):
    with pytest.raises(MissingDependencyError, match=r"^gone needs not_installed$"):
        _ = package.gone
    with pytest.raises(ModuleNotFoundError, match="not_known"):
        _ = package.broken
