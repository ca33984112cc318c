"""What the package needs LangChain's agents for, which are a package of their own."""

import subprocess
import sys

WITHOUT_AGENTS = """
import sys
sys.modules["langchain"] = None
import langchain_nad
langchain_nad.NADChatModel(n=4)
langchain_nad.nad_step_node
for name in ("NADStepSelection", "CodeRepair"):
    try:
        getattr(langchain_nad, name)
    except langchain_nad.MissingDependencyError as error:
        print(error)
"""


def test_models_and_nodes_work_without_langchains_agents():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_AGENTS], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert [line.split(" needs ")[0] for line in done.stdout.splitlines()] == ["NADStepSelection", "CodeRepair"]
    assert "pip install langchain" in done.stdout
