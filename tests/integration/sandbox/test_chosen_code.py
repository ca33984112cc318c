"""The chosen code is checked, and the next in rank when it fails: decoder, chat model and command line."""

import json
import os
import subprocess
import sys

import pytest
from langchain_nad import NADChatModel
from nad_sandbox import CodeVerifier

from nad_agents import NADConfig, NoCandidatePassedError, SamplingConfig, VerificationConfig

TASK = (
    "Answer with one complete Python code block.\n\nWrite a Python function is_prime(n) that returns True if n is a "
    "prime number and False otherwise."
)
TESTS = "assert is_prime(2) and is_prime(13) and is_prime(97)\nassert not is_prime(1) and not is_prime(9)\n"
SAMPLING = SamplingConfig(n=4, max_new_tokens=110, seed=5)


@pytest.fixture(scope="module")
def selection(default_decoder, sandbox):
    return default_decoder.decode(TASK, sampling=SAMPLING, verifier=CodeVerifier(sandbox, tests=TESTS))


def test_every_better_ranked_candidate_failed_and_the_winner_is_what_it_says(selection, sandbox):
    place = selection.ranking.index(selection.winner)
    verdicts = [selection.candidates[i].verdict for i in selection.ranking]
    if selection.verified:
        assert verdicts[place]["passed"]
        assert not any(v["passed"] for v in verdicts[:place])
    else:
        assert place == 0
        assert not any(v["passed"] for v in verdicts)
    again = CodeVerifier(sandbox, tests=TESTS).verify(selection.text, prompt=TASK)
    assert again.passed is selection.verified
    assert selection.timings.verify > 0


def test_an_error_may_be_asked_for_when_none_passes(default_decoder, sandbox):
    with pytest.raises(NoCandidatePassedError, match="none of 2 candidates passed"):
        default_decoder.decode(
            TASK,
            sampling=SamplingConfig(n=2, max_new_tokens=16, seed=5),
            verifier=CodeVerifier(sandbox, tests="assert False"),
            verification=VerificationConfig(on_failure="error"),
        )


def test_the_chat_model_checks_before_the_chain_goes_on(default_decoder, sandbox):
    chat = NADChatModel(decoder=default_decoder, n=2, max_tokens=16, seed=5, verifier=sandbox)
    evidence = chat.invoke(TASK).response_metadata["nad"]
    assert evidence["verification"]["passed"] in (True, False)


def test_early_stopping_checks_only_whole_answers(default_decoder, sandbox):
    config = NADConfig(pruning="first_chunk")
    pruned = default_decoder.decode(TASK, sampling=SAMPLING, config=config, verifier=sandbox)
    assert all(c.verdict is None for c in pruned.candidates if c.finish_reason == "pruned")


@pytest.mark.parametrize(("tests", "strict", "code"), [("assert False", [], 3), ("assert False", ["--strict"], 3)])
def test_the_command_line_says_by_its_exit_code_that_nothing_passed(tmp_path, tests, strict, code):
    file = tmp_path / "tests.py"
    file.write_text(tests)
    command = [sys.executable, "-m", "nad_agents", "code", TASK, "-n", "2", "--max-new-tokens", "24", "--tests", file]
    done = subprocess.run(
        [*command, *strict, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == code, done.stderr
    answer = json.loads(done.stdout)
    assert answer["error"]["type"] == "NoCandidatePassedError" if strict else answer["verified"] is False
