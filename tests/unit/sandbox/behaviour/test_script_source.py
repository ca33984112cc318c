"""Programs that read standard input: their prompts, and what they may read."""

import pytest
from nad_sandbox.backends.local import UnsafeLocalSandbox
from nad_sandbox.behaviour.inputs import script_inputs
from nad_sandbox.behaviour.runner import BehaviourRunner
from nad_sandbox.behaviour.script_source import generate_standard_input, without_prompts


@pytest.mark.parametrize(
    ("program", "without"),
    [
        ("n = int(input('Enter a number: '))", "n = int(input(('Enter a number: ', '')[1]))"),
        ("n = input(f'{1 + 1}?')", "n = input((f'{1 + 1}?', '')[1])"),
        ("n = input()  # as it is", "n = input()  # as it is"),
        ("n = input('broken", "n = input('broken"),
        ("print('Enter a number:')", "print('Enter a number:')"),
    ],
)
def test_prompts_print_nothing(program, without):
    assert without_prompts(program) == without


@pytest.mark.parametrize(
    ("program", "first", "lines"),
    [
        ("n = int(input())\nprint(n)", "3", 1),
        ("x = float(input('x? '))", "2.5", 1),
        ("a, b = map(int, input().split())", "3 1 2", 1),
        ("n = int(input())\nwords = input().split()", "3", 2),
        ("s = input().strip()", "hello", 1),
        ("import sys\nfor line in sys.stdin: print(line)", "hello", 7),
        ("import sys\nprint(sum(map(int, sys.stdin.read().split())))", "3 1 2", 1),
        ("for word in input().split(): print(word)", "the cat the hat", 1),
        ("for _ in range(3): print(input())", "hello", 7),
        ("print([int(input()) for _ in range(3)])", "3", 7),
        ("while True:\n    if input() == '': break", "hello", 7),
    ],
)
def test_what_is_read_fits_what_most_programs_make_of_it(program, first, lines):
    made = generate_standard_input([program, program, "x = input()"], 4)
    assert len(made) == len(set(made)) == 4
    assert made[0].splitlines()[0] == first
    assert all(len(text.splitlines()) == lines for text in made)


def test_samples_of_the_prompt_leave_no_room_for_made_up_lines_and_nothing_is_read_by_nobody():
    prompt = "Sample Input:\n2\nSample Output:\n4\n"
    assert script_inputs(prompt, count=4, programs=["int(input())"]).texts == ("2\n",)
    made = script_inputs("print hello", count=4, programs=["print(1)"])
    assert made.texts == ("",)
    assert made.descriptions == ("a run without input",)
    assert len(script_inputs("double it", count=4, programs=["int(input())"]).texts) == 4


def observed(*programs, prompt="Double a number."):
    with UnsafeLocalSandbox() as sandbox:
        answers = [f"```python\n{program}\n```" for program in programs]
        return BehaviourRunner(sandbox, max_inputs=4).observe(answers, prompt=prompt)


def test_scripts_that_prompt_differently_do_the_same():
    seen = observed(
        "print(2 * int(input('Enter a number: ')))", "n = int(input('n? '))\nprint(n + n)", "print(int(input()) ** 2)"
    )
    first, second, square = seen.outcomes
    assert all(a.matches(b) for a, b in zip(first, second, strict=True))
    assert not all(a.matches(b) for a, b in zip(first, square, strict=True))
    assert first[0].text == "printed '6\\n'"
    assert all(text.startswith("the input '") for text in seen.inputs)


def test_a_program_that_reads_all_of_its_input_sees_what_the_others_see():
    seen = observed(
        "a = int(input())\nb = int(input())\nprint(a + b)",
        "import sys\na, b = map(int, sys.stdin.read().split())\nprint(a + b)",
        "x = int(input('x: '))\ny = int(input('y: '))\nprint(y + x)",
        prompt="Add two numbers.",
    )
    assert not any(outcome.crashed for outcomes in seen.outcomes for outcome in outcomes)
    assert all(row[0].matches(other) for row in zip(*seen.outcomes, strict=True) for other in row)


def test_programs_that_show_nothing_are_not_observed():
    seen = observed("x = 1", "y = 2", prompt="Set a variable.")
    assert (seen.inputs, seen.outcomes) == ((), ((), ()))
    assert observed("print(1)", "y = 2", prompt="Print one.").inputs == ("a run without input",)


def test_what_was_seen_on_the_same_inputs_is_kept():
    class Counting(UnsafeLocalSandbox):
        runs = 0

        def run_python(self, *args, **options):
            self.runs += 1
            return super().run_python(*args, **options)

        def run_harness(self, *args, **options):
            self.runs += 1
            return super().run_harness(*args, **options)

    answers = ["```python\ndef f(x: int):\n    return x\n```", "```python\ndef f(x: int):\n    return -x\n```"]
    with Counting() as sandbox:
        runner = BehaviourRunner(sandbox, max_inputs=3)
        first = runner.observe(answers, prompt="f(x)")
        before = sandbox.runs
        assert runner.observe(answers, prompt="f(x)") == first
        assert sandbox.runs == before
        more = runner.observe([*answers, "```python\ndef f(x: int):\n    return 2 * x\n```"], prompt="f(x)")
        assert sandbox.runs > before
        assert more.outcomes[:2] == first.outcomes
