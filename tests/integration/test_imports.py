"""What a process has imported in the end: the heavy libraries only where they are used."""

import subprocess
import sys

import pytest

from tests.unit.evaluation.synthetic_runs import write_run

HEAVY = {"torch", "transformers", "sklearn", "matplotlib", "langchain_core", "docker"}
COMMAND = (
    "import sys\n"
    "from nad_agents.cli import main\n"
    "sys.argv = ['nad', 'select', {folder!r}, '--selector', 'knn', '--k', '15', '--chunks', '1']\n"
    "try:\n"
    "    main()\n"
    "except SystemExit as ended:\n"
    "    assert not ended.code, ended.code\n"
)
READING = (
    "from nad_agents.runs import RecordedRun\n"
    "from nad_agents.selectors import get_selector\n"
    "get_selector('knn').score(RecordedRun({folder!r}).group('made/0'))\n"
)
SCRIPTED = (
    "from nad_agents.testing import AcceptingVerifier, ScriptedAnswer, ScriptedDecoder\n"
    "decoder = ScriptedDecoder(ScriptedAnswer(['4', 'five'], ranking=[1, 0]), verifier=AcceptingVerifier('4'))\n"
    "assert decoder.decode('What is 2 + 2?').text == '4'\n"
    "assert [event for event in decoder.stream('What is 2 + 2?')][-1].selection.text == '4'\n"
)
CONSTRUCTING = "from langchain_nad import NADChatModel\nNADChatModel(n=4)\n"


@pytest.mark.parametrize(
    ("program", "allowed"),
    [(COMMAND, set()), (READING, set()), (CONSTRUCTING, {"langchain_core"}), (SCRIPTED, {"transformers"})],
    ids=["selecting", "reading a run", "constructing a chat model", "a scripted decoder"],
)
def test_heavy_libraries_are_left_out(program, allowed, tmp_path):
    program = program.format(folder=str(write_run(tmp_path / "run", problems=2, n=3)))
    program += f"import sys\nprint('loaded', sorted({HEAVY - allowed!r} & sys.modules.keys()))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("loaded []\n")
