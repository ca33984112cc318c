"""What a process has imported in the end: the heavy libraries only where they are used."""

import subprocess
import sys

import pytest

from tests.unit.evaluation.synthetic_runs import write_run

HEAVY = {"torch", "transformers", "sklearn", "matplotlib", "langchain_core", "docker"}
COMMAND = (
    "import sys\n"
    "from nad_agents.cli import main\n"
    "sys.argv = ['nad', 'select', {folder!r}, '--selector', 'knn', '--top-k-neurons', '15', '--compare-chunks', '1']\n"
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
SCRIPTED_LANGCHAIN = (
    "from langchain_nad import NADChatModel\n"
    "from nad_agents.testing import ScriptedDecoder\n"
    "assert NADChatModel(decoder=ScriptedDecoder('4')).invoke('What is 2 + 2?').content == '4'\n"
)
SCRIPTED_LLAMA_INDEX = (
    "from llama_index.llms.nad import NADLLM\n"
    "from nad_agents.testing import ScriptedDecoder\n"
    "assert NADLLM(decoder=ScriptedDecoder('4')).complete('What is 2 + 2?').text == '4'\n"
)
SCRIPTED_SERVER = (
    "import asyncio, httpx\n"
    "from nad_agents.testing import ScriptedDecoder\n"
    "from nad_server import create_app\n"
    "async def ask():\n"
    "    transport = httpx.ASGITransport(app=create_app(ScriptedDecoder('4')))\n"
    "    async with httpx.AsyncClient(transport=transport, base_url='http://server') as client:\n"
    "        return (await client.post('/v1/completions', json={{'model': 'scripted', 'prompt': '2 + 2 ='}})).json()\n"
    "assert asyncio.run(ask())['choices'][0]['text'] == '4'\n"
)
CONSTRUCTING = "from langchain_nad import NADChatModel\nNADChatModel(n=4)\n"


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        pytest.param(COMMAND, set(), id="selecting"),
        pytest.param(READING, set(), id="reading a run"),
        pytest.param(CONSTRUCTING, {"langchain_core"}, id="constructing a chat model"),
        pytest.param(SCRIPTED, {"transformers"}, id="a scripted decoder"),
        pytest.param(SCRIPTED_LANGCHAIN, {"transformers", "langchain_core"}, id="a scripted decoder in LangChain"),
        pytest.param(SCRIPTED_LLAMA_INDEX, {"transformers"}, id="a scripted decoder in LlamaIndex"),
        pytest.param(SCRIPTED_SERVER, {"transformers"}, id="a scripted decoder in the server"),
    ],
)
def test_heavy_libraries_are_left_out(program, allowed, tmp_path):
    program = program.format(folder=str(write_run(tmp_path / "run", problems=2, n=3)))
    program += f"import sys\nprint('loaded', sorted({HEAVY - allowed!r} & sys.modules.keys()))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("loaded []\n")


@pytest.mark.parametrize(
    ("module", "servers"),
    [
        ("nad_server.command", {"fastapi", "starlette", "uvicorn", "prometheus_client", "ray"}),
        ("nad_mcp.command", {"mcp", "starlette", "uvicorn"}),
    ],
)
def test_loading_a_command_imports_no_server(module, servers):
    heavy = {*servers, "torch", "transformers"}
    program = f"import sys, {module}\nprint(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
