"""Which programs cannot be loaded without standard input, and that those with input-output pairs are not."""

import pytest
from nad_sandbox import CodeVerifier, UnsafeLocalSandbox
from nad_sandbox.checks.standard_input import reads_standard_input_when_loaded

READING = [
    "n = int(input())\nprint(n * 2)\n",
    "import sys\nfor line in sys.stdin:\n    print(int(line) * 2)\n",
    "import sys\nn = int(sys.stdin.readline())\nprint(n * 2)\n",
    "from sys import stdin\nprint(int(stdin.read()) * 2)\n",
    "import sys\ninput = sys.stdin.readline\nprint(int(input()) * 2)\n",
    "print(int(open(0).read()) * 2)\n",
    "import os\nprint(int(os.read(0, 100)) * 2)\n",
    "import fileinput\nfor line in fileinput.input():\n    print(int(line) * 2)\n",
    "def main():\n    n = int(input())\n    print(n * 2)\n\nmain()\n",
    "def read():\n    return int(input())\n\ndef main():\n    print(read() * 2)\n\nif True:\n    main()\n",
    "class Solver:\n    def __init__(self):\n        self.n = int(input())\n\nprint(Solver().n * 2)\n",
    "x, = map(int, input().split())\nprint(x * 2)\n",
]
LOADING = [
    "def f(n):\n    return n * 2\n",
    "def main():\n    n = int(input())\n    print(n * 2)\n\nif __name__ == '__main__':\n    main()\n",
    "if '__main__' == __name__:\n    print(int(input()) * 2)\n",
    "def ask():\n    return input()\n\ndef f(n):\n    return n * 2\n\nprint(f(2))\n",
    "'input()'  # input()\nx = 1\n",
    "read = lambda: input()\n",
    "broken(\n",
]


@pytest.mark.parametrize("program", READING)
def test_a_script_that_reads_is_known(program):
    assert reads_standard_input_when_loaded(program)


@pytest.mark.parametrize("program", LOADING)
def test_a_program_that_can_be_loaded_is_known(program):
    assert not reads_standard_input_when_loaded(program)


@pytest.fixture(scope="module")
def sandbox():
    with UnsafeLocalSandbox() as made:
        yield made


@pytest.mark.parametrize("program", [READING[0], READING[1], READING[8], LOADING[1]])
def test_an_ordinary_script_passes_its_pairs_with_the_default_checks(sandbox, program):
    verifier = CodeVerifier(sandbox, io_pairs=[("4\n", "8\n"), ("0\n", "0\n")])
    report = verifier.verify(f"```python\n{program}```")
    assert report.passed, report.feedback
    assert not verifier.verify(f"```python\n{program.replace('* 2', '* 3')}```").passed


def test_a_function_that_reads_when_it_is_loaded_still_fails_its_tests(sandbox):
    program = "n = int(input())\n\ndef f(x):\n    return x\n"
    assert not CodeVerifier(sandbox, tests="assert f(1) == 1").verify(program).passed
    assert not CodeVerifier(sandbox).verify(program, prompt=">>> f(1)\n1\n").passed


@pytest.mark.parametrize(
    ("program", "prompt", "options", "tested"),
    [
        ("def f(x):\n    return x\n", "", {}, False),
        ("def f(x):\n    return x\n", ">>> f(1)\n1\n", {}, True),
        ("def f(x):\n    return x\n", ">>> f(1)\n1\n", {"checks": ["syntax", "imports"]}, False),
        ("def f(x):\n    return x\n", "", {"tests": "assert f(1) == 1"}, True),
        (READING[0], "", {}, False),
        (READING[0], "", {"io_pairs": [("4\n", "8\n")]}, True),
    ],
)
def test_a_report_says_whether_there_was_anything_to_test(sandbox, program, prompt, options, tested):
    report = CodeVerifier(sandbox, **options).verify(f"```python\n{program}```", prompt=prompt)
    assert (report.passed, report.to_dict()["tested"]) == (True, tested)
