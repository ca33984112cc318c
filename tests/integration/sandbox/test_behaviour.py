"""Observing what candidates' programs do, in a real sandbox, and choosing by it."""

import json
import subprocess
import sys

import pytest
from nad_sandbox import AssertionRunner, BehaviourRunner
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


def test_programs_that_refuse_an_input_as_they_should_agree(runner):
    prompt = "Write parse_age(text: str) -> int. It raises ValueError for anything but a number from 0 to 150."
    refusing = "if not 0 <= age <= 150:\n        raise ValueError('out of range')\n    return age"
    natural = f"def parse_age(text):\n    age = int(text)\n    {refusing}"
    checking = f"def parse_age(text):\n    if not text.isdigit():\n        raise ValueError(text)\n    age = int(text)\n    {refusing}"
    silent = "def parse_age(text):\n    return int(text) if text.isdigit() and int(text) <= 150 else None"
    answers = [fenced(code) for code in (silent, natural, silent + "\n", checking, checking + "\n")]
    group = make_group([make_rollout([[i]], text=text) for i, text in enumerate(answers)], prompt=prompt)
    scores = Behaviour(runner=runner).score(group)
    assert set(rank(scores, group)[:3]) == {1, 3, 4}
    seen = {text for behaviour in scores.details["behaviours"] for text in behaviour["outcomes"]}
    assert "raised ValueError" in seen


def test_assertions_decide_between_groups_of_the_same_size(runner, sandbox):
    def write(prompt, parameters):
        return [{"numbers": [1, 2], "expected_result": 3}, {"numbers": [5], "expected_result": 5}]

    programs = (WRONG, WRONG + "\n", RIGHT, ALSO_RIGHT)
    group = make_group([make_rollout([[i]], text=fenced(code)) for i, code in enumerate(programs)], prompt=PROMPT)
    chosen = Behaviour(runner=runner, assertions=AssertionRunner(sandbox, write))
    scores = chosen.score(group)
    assert scores.details["assertions"] == ["assert total([1, 2]) == 3", "assert total([5]) == 5"]
    assert scores.details["passed"] == [1, 1, 2, 2]
    assert set(rank(scores, group)[:2]) == {2, 3}


def test_functions_and_files_are_given_to_programs_that_take_them(runner):
    lines = ["with open(path) as file: return len(file.readlines())", "return len(open(path).read().split('\\n'))"]
    seen = runner.observe([fenced(f"def count_lines(path: str) -> int:\n    {line}") for line in lines])
    assert dict(zip(seen.inputs, texts(seen)[0], strict=True))["count_lines('words.txt')"] == "4"
    assert not seen.outcomes[0][0].matches(seen.outcomes[1][0])
    twice = runner.observe([fenced(f"def twice(f, x):\n    return {value}") for value in ("f(f(x))", "f(x)")])
    assert texts(twice)[0][0] == "4"
    assert not twice.outcomes[0][0].matches(twice.outcomes[1][0])


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
    assert seen["huge"][0].startswith("<a long result: 1000")


def test_objects_that_hold_each_other_and_long_lists_are_told(runner):
    programs = (
        "class Node:\n    def __init__(self, value):\n        self.value, self.links = value, []\n"
        "def total(numbers):\n    nodes = [Node(n) for n in numbers]\n"
        "    for node in nodes:\n        node.links = nodes\n    return nodes",
        "def total(numbers):\n    return list(range(100_000))",
    )
    told = texts(runner.observe(list(map(fenced, programs)), prompt=PROMPT))
    assert told[0][0].startswith("[<Node {'links': ")
    assert set(told[1]) != {"not deterministic"}
    assert not {text for row in told for text in row} & {"not deterministic", "ended its process"}


def test_functions_that_are_returned_are_called(runner):
    programs = {
        "closure": "def adder(n):\n    def inner(x):\n        return x + n\n    return inner",
        "partial": "import functools, operator\ndef adder(n):\n    return functools.partial(operator.add, n)",
        "wrong": "def adder(n):\n    return lambda x: x - n",
        "bare": "def adder(n):\n    return object()",
        "endless": "def adder(n):\n    def inner(*args):\n        while True: pass\n    return inner",
        "itself": "def adder(n):\n    return adder",
        "many": "def adder(n):\n    while True:\n        yield n",
        "asynchronous": "async def adder(n):\n    for i in range(n): yield i",
    }
    seen = runner.observe(list(map(fenced, programs.values())), prompt="Write `adder(n)` that returns a function.")
    told = dict(zip(programs, seen.outcomes, strict=True))
    place = seen.inputs.index("adder(1)")
    assert told["closure"][place].text.startswith("<function: (3) gives 4, ")
    assert all(a.matches(b) for a, b in zip(told["closure"], told["partial"], strict=True))
    assert not told["closure"][place].matches(told["wrong"][place])
    assert told["bare"][place].text == "<object>"
    assert told["endless"][place].text == "ran out of time"
    assert told["itself"][place].text.startswith("<function: (3) gives <function")
    assert told["many"][place].seen["returned"][0] == "long"
    assert told["many"][place].stable
    assert told["asynchronous"][place].text == "[0]"


def test_kinds_of_classes_are_observed_in_the_sandbox(runner):
    error = "class TooMuch(Exception):\n    def __init__(self, limit):\n        self.limit = limit\n"
    cases = {
        "An exception TooMuch with a limit.": (
            error,
            error.replace("= limit", "= limit or 0"),
            error + "TooMuch = int\n",
        ),
        "A decorator once.": (
            "def once(f):\n    kept = []\n    def inner(*args):\n        if not kept:\n            kept.append(f(*args))\n"
            "        return kept[0]\n    return inner\n",
            "import functools\ndef once(g):\n    @functools.wraps(g)\n    def inner(*args):\n"
            "        if not hasattr(inner, 'result'):\n            inner.result = g(*args)\n        return inner.result\n"
            "    return inner\n",
            "def once(f):\n    def inner(*args):\n        return f(*args)\n    return inner\n",
        ),
        "A context manager level that counts in depth.": tuple(
            "class level:\n    depth = 0\n    def __enter__(self):\n        self.depth += 1\n        return self\n"
            f"    def __exit__(self, *details):\n        {body}\n"
            for body in ("self.depth -= 1", "self.depth = self.depth - 1", "return True")
        ),
    }
    for prompt, programs in cases.items():
        right, alike, wrong = runner.observe(list(map(fenced, programs)), prompt=prompt).outcomes
        assert all(a.matches(b) for a, b in zip(right, alike, strict=True)), prompt
        assert not all(a.matches(b) for a, b in zip(right, wrong, strict=True)), prompt
        assert not any(outcome.crashed for outcome in right), prompt


def test_values_of_the_library_and_of_the_program_are_given_and_files_are_told(runner):
    days = "from datetime import date\ndef days(start: date, end: date):\n    return (end - start).days\n"
    seen = runner.observe([fenced(days)])
    assert seen.inputs[0] == "days(date(2024, 2, 29), date(2023, 12, 31))"
    assert texts(seen)[0][0] == "-60"
    nodes = "class Node:\n    def __init__(self, value, next=None):\n        self.value, self.next = value, next\n"
    last = nodes + "def last(head: Node):\n    return last(head.next) if head.next else head.value\n"
    seen = runner.observe([fenced(last)], prompt="A function last(head).")
    assert dict(zip(seen.inputs, texts(seen)[0], strict=True))["last(Node(1, next=Node(3)))"] == "3"
    save = "import time\ndef save(path, text):\n    time.sleep(60)\n    open(path, 'w').write(text)\n"
    seen = runner.observe([fenced(save)], prompt="Write save(path, text).")
    assert "wrote {'words.txt': 'a'}" in texts(seen)[0]
    assert all(outcome.stable for outcome in seen.outcomes[0])


def test_a_module_that_the_sandbox_lacks_is_named(runner):
    attrs = "import not_there as attr\n@attr.s\nclass Point:\n    x = attr.ib()\n"
    group = make_group([make_rollout([[i]], text=fenced(attrs)) for i in range(2)], prompt="An attrs class Point.")
    details = Behaviour(runner=runner).score(group).details
    assert details["missing_modules"] == {"not_there": 2}
    assert details["note"].startswith("the programs import not_there, which the sandbox lacks")


def test_what_depends_on_the_process_is_not_taken_for_a_result(runner):
    programs = {
        "order of a set": "def total(numbers):\n    return list({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})",
        "order of views": "def total(numbers):\n    return list(dict.fromkeys('abcdefgh').keys() - {}.keys())",
        "address": "def total(numbers):\n    print(object())\n    return 0",
        "imported": "import uuid\ndef total(numbers):\n    return str(uuid.uuid4())",
        "time": "import time\ndef total(numbers):\n    return time.perf_counter_ns()",
        "a set that counts": "def total(numbers):\n    return len(set('abcdefgh'))",
        "deep": "def total(numbers):\n    return f(960)\ndef f(n):\n    return n and 1 + f(n - 1)",
        "deep, with a set": "def total(numbers):\n    return f(960) + len(set())\ndef f(n):\n    return n and 1 + f(n - 1)",
    }
    seen = texts(runner.observe(list(map(fenced, programs.values())), prompt=PROMPT))
    assert {name: outcomes[0] for name, outcomes in zip(programs, seen, strict=True)} == {
        **dict.fromkeys(["order of a set", "order of views", "address", "imported", "time"], "not deterministic"),
        "a set that counts": "8",
        "deep": "960",
        "deep, with a set": "960",
    }


def test_no_process_of_a_program_holds_the_nonce_of_its_observer(runner):
    spy = (
        "import re, sys\n"
        "def total(numbers):\n"
        "    frame, found = sys._getframe(), []\n"
        "    while frame is not None:\n"
        "        for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:\n"
        "            if name != 'mark':  # of the program before, which is over\n"
        "                found += re.findall('(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])', str(value))\n"
        "        frame = frame.f_back\n"
        "    return found"
    )
    [[outcome, *_]] = texts(runner.observe([fenced(spy)], prompt=PROMPT))
    assert outcome == "[]"


def test_inputs_that_separate_the_leading_groups_decide(runner):
    class Separator:
        def separate(self, prompt, first, second, parameters):
            assert {first, second} == {fenced(RIGHT), fenced(wrong)}
            assert parameters["numbers"]["items"] == {"type": "integer"}
            return [{"numbers": [9000, 2000]}, {"numbers": [1]}, {"numbers": [5000, 600]}], 20

    # of the inputs so far only those with a large sum tell the two apart; the third program is right on these alone
    wrong = "def total(numbers):\n    return min(sum(numbers), 50)"
    third = "def total(numbers):\n    return sum(numbers) if sum(numbers) > 5000 else None"
    answers = [fenced(code) for code in (wrong, RIGHT, third)]
    group = make_group(
        [make_rollout([[i]], text=text, logprobs=-1.0 - i) for i, text in enumerate(answers)], prompt=PROMPT
    )
    assert rank(Behaviour(runner=runner).score(group), group)[0] == 0
    scores = Behaviour(runner=runner, separate=Separator()).score(group)
    assert rank(scores, group)[0] == 1
    found = scores.details["separation"]
    assert found["inputs"] == ["total([9000, 2000])", "total([5000, 600])"]
    assert found["outcomes"] == [["50", "50"], ["11000", "5600"]]
    assert (found["decided_by"], found["generated_tokens"]) == ("vote", 20)
    assert scores.details["inputs"][-2:] == found["inputs"]


def test_scripts_end_as_under_python(runner):
    programs = {
        "exit": "import sys\nprint(input())\nsys.exit()",
        "status": "import sys\nprint(input())\nsys.exit(3)",
        "message": "import sys\nsys.exit('wrong: ' + input())",
        "at exit": "import atexit\natexit.register(lambda: print('end'))\nprint(open(0).read().strip())",
        "thread": "import threading\nthreading.Thread(target=lambda: print(input())).start()",
        "killed": "import os\nos.kill(os.getpid(), 9)",
        "main": "if __name__ == '__main__':\n    print(__file__, input())",
        "own class": "class MyError(Exception): pass\nraise MyError(input())",
        "syntax": "print(input()",
        "endless": "input()\nwhile True: pass",
    }
    prompt = "Print the line.\n\nSample Input:\nx\nSample Output:\nx\n"
    seen = texts(runner.observe(list(map(fenced, programs.values())), prompt=prompt))
    assert {name: outcomes[0] for name, outcomes in zip(programs, seen, strict=True)} == {
        "exit": "printed 'x\\n'",
        "status": "raised status 3, printed 'x\\n'",
        "message": "raised wrong",
        "at exit": "printed 'x\\nend\\n'",
        "thread": "printed 'x\\n'",
        "killed": "raised status -9",
        "main": "printed 'program.py x\\n'",
        "own class": "raised MyError",
        "syntax": "raised SyntaxError",
        "endless": "ran out of time",
    }


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


def test_forged_outcomes_of_any_form_concern_only_their_program(runner):
    lines = (
        '{"returned": 5}',
        '{"returned": ["list", 3], "address": [], "stable_items": 3}',
        '{"returned": ["list", [1, {}]], "stable": []}',
        '{"ended": {}}',
        '{"returned": ["function", [[1, 2, 3]]]}',
        "[" * 300 + "]" * 300,
    )
    forge = (
        "import os, random\n"
        "def total(numbers):\n"
        "    for fd in range(3, 30):\n"
        "        try: os.write(fd, (LINE.replace('5', str(random.random())) + '\\n').encode())\n"
        "        except OSError: pass\n"
        "    os._exit(0)\n"
    )
    answers = [fenced(forge.replace("LINE", repr(line))) for line in lines]
    honest, *lying = texts(runner.observe([fenced(RIGHT), *answers], prompt=PROMPT))
    assert honest[0] == "3"
    assert {text for row in lying for text in row} == {"ended its process"}


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
