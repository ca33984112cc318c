"""The wheel holds what it should, and works where nothing of this checkout is on the path."""

import configparser
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "nad_agents": ROOT / "nad_agents",
    "langchain_nad": ROOT / "integrations" / "langchain_nad",
    "llama_index": ROOT / "integrations" / "llama_index",
    "nad_inspect_ai": ROOT / "integrations" / "nad_inspect_ai",
    "nad_mcp": ROOT / "integrations" / "nad_mcp",
    "nad_server": ROOT / "integrations" / "nad_server",
    "nad_smolagents": ROOT / "integrations" / "nad_smolagents",
    "nad_sandbox": ROOT / "sandbox" / "nad_sandbox",
}
TYPED = (*(PACKAGES.keys() - {"llama_index"}), "llama_index.llms.nad")
IMPORTS = (*TYPED, "nad_agents.testing")


def run(*command):
    """A command in an environment that knows nothing of this checkout, at a place that has nothing of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, env=environment, cwd=Path(command[0]).parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True, timeout=240)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def content(wheel):
    """File -> text of everything in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh environment that has the wheel, and borrows what it depends on from this one.

    A folder that a .pth file names is put on the path as it is: what is installed there as editable stays outside.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "installed_base": str(folder)}))
    install = ("--python", scripts / "python", "install", "--quiet", "--no-deps", "--no-index", wheel)
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=240)
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return scripts


def test_the_wheel_has_all_files_of_the_packages_and_no_others(content):
    expected = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in content if ".dist-info/" not in name} == expected
    assert not [name for name in content if Path(name).name.startswith(("test_", "conftest"))]


@pytest.mark.parametrize(
    "name",
    [
        "nad_agents/py.typed",
        "langchain_nad/py.typed",
        "llama_index/llms/nad/py.typed",
        "nad_mcp/py.typed",
        "nad_server/py.typed",
        "nad_sandbox/py.typed",
        "nad_agents/testing/__init__.py",
        "nad_server/ui/index.html",
        "nad_server/ui/page.css",
        "nad_server/ui/page.js",
        "nad_sandbox/harness/supervisor.py",
        "nad_sandbox/harness/child.py",
        "nad_sandbox/harness/file_transfer.py",
        "nad_sandbox/isolation/bootstrap/main.py",
        "nad_smolagents/interpreter.py",
        "nad_sandbox/image/Dockerfile",
        "nad_sandbox/image/debian-rootfs.sh",
    ],
)
def test_what_a_program_reads_while_it_runs_is_in_the_wheel(content, name):
    assert name in content


def test_the_metadata_say_what_each_extra_needs(content):
    (name,) = (name for name in content if name.endswith(".dist-info/METADATA"))
    metadata = message_from_string(content[name])
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    for extra in metadata.get_all("Provides-Extra"):
        brought = {one.name for one in needed if one.marker is not None and one.marker.evaluate({"extra": extra})}
        assert brought, extra
        assert ("langchain-core" in brought) == (extra in {"all", "deepagents", "langchain"}), extra
    assert not {one.name for one in needed if one.marker is None} & {"langchain-core", "llama-index-core", "fastapi"}
    assert [name for name in content if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_commands_are_registered(content):
    (name,) = (name for name in content if name.endswith(".dist-info/entry_points.txt"))
    points = configparser.ConfigParser()
    points.read_string(content[name])
    assert dict(points["console_scripts"]) == {"nad": "nad_agents.cli:main"}
    assert dict(points["nad_agents.commands"]) == {
        "mcp": "nad_mcp.command:mcp",
        "serve": "nad_server.command:serve",
    }
    assert dict(points["inspect_ai"]) == {"nad_inspect_ai": "nad_inspect_ai"}


def test_nad_runs_where_only_the_wheel_is_installed(environment):
    shown = run(environment / "nad", "--help")
    assert all(command in shown for command in ("ask", "code", "doctor", "mcp", "serve"))
    assert "--port" in run(environment / "nad", "serve", "--help")


def test_each_package_is_imported_from_the_wheel(environment):
    program = f"from importlib import import_module\nfor name in {IMPORTS}: print(import_module(name).__file__)"
    files = run(environment / "python", "-c", program).split()
    assert len(files) == len(IMPORTS)
    assert all(Path(file).is_relative_to(environment.parent) for file in files), files


def test_each_package_says_that_it_is_typed(content):
    typed = {name for name in content if name.endswith("/py.typed")}
    assert typed == {f"{package.replace('.', '/')}/py.typed" for package in TYPED}


def test_the_source_distribution_has_what_builds_and_tests_the_project(tmp_path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path], cwd=ROOT, check=True)
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "constraints.txt",
        "mkdocs.yml",
    } <= names
    assert {"docs/index.md", "tests/conftest.py", "nad_agents/py.typed", "sandbox/engine.sh"} <= names
    assert not [name for name in names if name.startswith(("site/", "dist/", ".venv/"))]
