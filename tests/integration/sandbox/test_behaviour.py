"""Observing what candidates' programs do, in a real sandbox, and choosing by it."""

import json
import subprocess
import sys

import pytest
from nad_sandbox import BehaviourRunner
from nad_sandbox.behaviour.inputs import call_inputs
from nad_sandbox.behaviour.target_function import Parameter, TargetFunction

from nad_agents.selectors import Behaviour, rank
from tests.unit.builders import make_group, make_rollout

PROMPT = "def total(numbers: List[int]) -> int:\n    '''Sum of the numbers.\n    >>> total([1, 2])\n    3\n    '''"
RIGHT = "def total(numbers):\n    return sum(numbers)"
ALSO_RIGHT = "def total(numbers):\n    t = 0\n    for n in numbers:\n        t += n\n    return t"
WRONG = "def total(numbers):\n    return max(numbers)"


def fenced(code):
    return f"Here it is.\n```python\n{code}\n```"


@pytest.fixture(scope="module")
def runner(sandbox):
    return BehaviourRunner(sandbox, max_inputs=8, seconds_per_input=0.5)


def texts(observed):
    return [[outcome.text for outcome in outcomes] for outcomes in observed.outcomes]


def test_the_behaviour_of_most_wins_whatever_the_form(runner):
    answers = [fenced(code) for code in (WRONG, RIGHT, "def total(numbers): return 0", ALSO_RIGHT)]
    group = make_group([make_rollout([[i]], text=text) for i, text in enumerate(answers)], prompt=PROMPT)
    scores = Behaviour(runner=runner).score(group)
    assert scores.values[1] == scores.values[3] == scores.values.max()
    assert set(rank(scores, group)[:2]) == {1, 3}
    assert scores.details["inputs"][0] == "total([1, 2])"
    assert scores.details["behaviours"][0]["outcomes"][0] == "3"


def test_what_each_kind_of_program_does(runner):
    programs = {
        "mutates": "def total(numbers):\n    numbers.append(1)\n    return 0",
        "prints": "def total(numbers):\n    print(len(numbers))",
        "raises": "def total(numbers):\n    raise KeyError(1)",
        "random": "import random\ndef total(numbers):\n    return random.random()",
        "hash": "def total(numbers):\n    return hash('a')",
        "syntax": "def total(numbers) return 1",
        "exits": "import os\ndef total(numbers):\n    os._exit(0)",
        "endless": "def total(numbers):\n    while True: pass",
        "no such function": "x = 1",
        "endless at load": "while True: pass\ndef total(numbers): return 1",
        "async": "async def total(numbers):\n    return sum(numbers)",
        "generator": "def total(numbers):\n    yield sum(numbers)",
        "recursion": "def total(numbers):\n    return total(numbers)",
        "object": "class Box:\n    def __init__(self, v): self.v = v\ndef total(numbers):\n    return Box(sum(numbers))",
        "huge": "def total(numbers):\n    return 'x' * 10**6",
    }
    seen = dict(zip(programs, texts(runner.observe(list(map(fenced, programs.values())), prompt=PROMPT)), strict=True))
    assert {name: outcomes[0] for name, outcomes in seen.items()} == {
        "mutates": "0, arguments [[[1, 2, 1]], {}]",
        "prints": "printed '2\\n'",
        "raises": "raised KeyError",
        "random": "not deterministic",
        "hash": "not deterministic",
        "syntax": "raised SyntaxError",
        "exits": "ended its process",
        "endless": "ran out of time",
        "no such function": "raised NameError",
        "endless at load": "ran out of time",
        "async": "3",
        "generator": "[3]",
        "recursion": "raised RecursionError",
        "object": "<Box {'v': 3}>",
        "huge": seen["huge"][0],
    }
    assert seen["huge"][0].startswith("<1000")


def test_scripts_are_compared_by_what_they_print(runner):
    prompt = "Read two numbers, print their sum.\n\nSample Input:\n2 3\nSample Output:\n5\n"
    programs = [
        "a, b = map(int, input().split())\nprint(a + b)",
        "import sys\nprint(sum(int(x) for x in sys.stdin.read().split()))",
        "a, b = map(int, input().split())\nprint(a * b)",
        "raise ValueError('no')",
    ]
    observed = runner.observe(list(map(fenced, programs)), prompt=prompt)
    assert observed.inputs == ("the input '2 3'",)
    assert [outcomes[0] for outcomes in texts(observed)] == [
        "printed '5\\n'",
        "printed '5\\n'",
        "printed '6\\n'",
        "raised ValueError",
    ]
    assert [outcomes[0].crashed for outcomes in observed.outcomes] == [False, False, False, True]


def test_a_candidate_cannot_speak_for_the_observer(runner):
    forged = (
        "import os, sys\n"
        "for fd in range(3, 30):\n"
        '    try: os.write(fd, b\'{"returned": ["int", "3"]}\\n\' * 99)\n'
        "    except OSError: pass\n"
        "os._exit(0)\n"
    )
    honest, lying = texts(runner.observe([fenced(RIGHT), fenced(forged)], prompt=PROMPT))
    assert honest[0] == "3"
    # it may lie about what it returns, as any program may by returning it, but only about itself
    assert len(lying) == len(honest)


@pytest.mark.parametrize("kind", ["docker", "bubblewrap"])
def test_nad_code_chooses_by_behaviour_where_there_is_a_sandbox(kind):
    command = [sys.executable, "-m", "nad_agents", "code", "Write a Python function double(x: int) that doubles x."]
    command += ["-n", "3", "--max-new-tokens", "48", "--seed", "1", "--sandbox", kind, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    selection = json.loads(done.stdout)
    details = selection["details"]
    assert selection["selector"] == "behaviour"
    generated = call_inputs("", TargetFunction("double", (Parameter("x", "int"),)), count=16).texts
    assert set(details["inputs"]) - set(generated), "the model proposed no input of its own"
    assert len(details["groups"]) == 3
    assert sum(behaviour["size"] for behaviour in details["behaviours"]) == 3
    assert all(len(behaviour["outcomes"]) == len(details["inputs"]) > 1 for behaviour in details["behaviours"])
    assert selection["candidates"][selection["winner"]]["score"] == max(c["score"] for c in selection["candidates"])
