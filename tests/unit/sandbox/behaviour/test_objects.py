"""Classes: which one is observed, the steps that are taken on its objects, and what is told of each."""

import ast

import jsonschema
import pytest
from nad_sandbox.backends.local import UnsafeLocalSandbox
from nad_sandbox.behaviour.object_sequences import object_inputs, sequence_schema
from nad_sandbox.behaviour.outcome import Outcome, read_steps
from nad_sandbox.behaviour.runner import BehaviourRunner
from nad_sandbox.behaviour.target_class import Method, TargetClass, find_target_class
from nad_sandbox.behaviour.target_function import Parameter

PROMPT = "Write a Python class BankAccount with deposit, withdraw and a balance. Withdrawing too much is refused."
ACCOUNT = """class BankAccount:
    def __init__(self, owner: str, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount: float):
        print("Deposited", amount)
        self.balance += amount

    def withdraw(self, amount: float):
        if amount > self.balance:
            raise ValueError("too much")
        self.balance -= amount
"""
SPOKEN = ACCOUNT.replace('"Deposited"', '"Thank you for"')
CARELESS = ACCOUNT.replace('        if amount > self.balance:\n            raise ValueError("too much")\n', "")


def fenced(code):
    return f"Here it is.\n```python\n{code}\n```"


def test_the_class_of_most_programs_is_the_target_with_what_most_have():
    other = ACCOUNT.replace("withdraw", "take_out")
    found = find_target_class(PROMPT, [ACCOUNT, SPOKEN, other, "broken("])
    assert found == TargetClass(
        "BankAccount",
        (Parameter("owner", "str"),),
        (Method("deposit", (Parameter("amount", "float"),)), Method("withdraw", (Parameter("amount", "float"),))),
        ("balance", "owner"),
    )


@pytest.mark.parametrize(
    ("prompt", "program", "name"),
    [
        ("Write a class for a stack.", "class Stack:\n    def push(self, x): pass", "Stack"),
        ("Make a Stack.", "class Stack:\n    def push(self, x): pass", "Stack"),
        # the function is asked for, and the class is its helper
        ("Write a function f on a class Node.", "class Node:\n    def n(self): pass\ndef f(x): pass", None),
        ("def f(x):\n    '''Uses class Node.'''", "class Node:\n    def n(self): pass\ndef f(x): pass", None),
        ("Add two numbers.", "class Adder:\n    def add(self, a, b): pass", None),
        ("Write a class.", "class Solution:\n    def go(self, n): pass", None),
        ("Write an exception class.", "class Wrong(ValueError):\n    def go(self, n): pass", None),
        ("Write a class.", "class Empty:\n    pass", None),
        ("Write a class.", "def f(): pass", None),
    ],
)
def test_when_a_class_is_observed(prompt, program, name):
    found = find_target_class(prompt, [program, program])
    assert (found.name if found else None) == name


def test_dataclasses_properties_static_methods_and_views():
    program = """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: int = 0
    def moved(self, dx: int, times=1): pass
    @property
    def norm(self): pass
    @staticmethod
    def parse(text): pass
    @classmethod
    def make(cls): pass
    def _hidden(self): pass
    def __str__(self): pass
    def __len__(self): pass
"""
    assert find_target_class("A class Point.", [program]) == TargetClass(
        "Point",
        (Parameter("x", "int"),),
        (Method("moved", (Parameter("dx", "int"),)), Method("parse", (Parameter("text"),))),
        ("norm", "x", "y"),
        ("len", "str"),
    )


def test_sequences_call_every_method_and_look_at_the_object_and_are_the_same_each_time():
    target = find_target_class(PROMPT, [ACCOUNT])
    made = object_inputs(PROMPT, target, count=6)
    assert made == object_inputs(PROMPT, target, count=6)
    assert (made.kind, len(made.texts), made.examples) == ("object", 6, 0)
    shown = [text for texts in made.shown for text in texts]
    assert any("deposit(" in text for text in shown)
    assert any(text.rpartition("; ")[2].startswith("withdraw(") for text in shown)
    assert all(texts[-2].endswith("; balance") and texts[-1].endswith("; owner") for texts in made.shown)
    assert all(text.startswith("BankAccount('") for text in made.descriptions)
    for call in made.texts:
        tree = ast.parse(call, mode="eval").body
        assert next(ast.literal_eval(argument) for argument in tree.args) == "BankAccount"


def test_proposed_sequences_are_mixed_in_and_checked():
    target = find_target_class(PROMPT, [ACCOUNT])
    given = {
        "constructor_arguments": ["Zoe", 7],
        "method_calls": [{"method": "deposit", "arguments": [3]}, {"method": "withdraw", "arguments": [11]}],
    }
    schema = sequence_schema(target)
    jsonschema.validate(given, {"properties": schema, "required": list(schema)})
    made = object_inputs(PROMPT, target, count=4, propose=lambda prompt, schemas: [given])
    assert "BankAccount('Zoe', 7); deposit(3); withdraw(11)" in made.descriptions
    wrong = {**given, "method_calls": [{"method": "steal", "arguments": []}]}
    for bad in (3, {}, wrong, {**given, "constructor_arguments": [object()]}):
        with pytest.raises(ValueError, match="cannot be used"):
            object_inputs(PROMPT, target, count=4, propose=lambda prompt, schemas, bad=bad: [bad])


def test_objects_are_compared_by_what_their_methods_return_and_raise_and_by_their_state():
    with UnsafeLocalSandbox() as sandbox:
        observed = BehaviourRunner(sandbox, max_inputs=6).observe(
            [fenced(code) for code in (ACCOUNT, SPOKEN, CARELESS, "class BankAccount(:")], prompt=PROMPT
        )
    first, spoken, careless, broken = observed.outcomes
    assert all(a.matches(b) for a, b in zip(first, spoken, strict=True))  # what is printed is a matter of taste
    assert not all(a.matches(b) for a, b in zip(first, careless, strict=True))
    assert all(outcome.text == "raised SyntaxError" for outcome in broken)
    told = dict(zip(observed.inputs, (outcome.text for outcome in first), strict=True))
    assert "raised ValueError" in told.values()
    state = next(text for text in told if text.endswith("; balance"))
    assert float(told[state]) is not None
    assert all(description.strip() for description in observed.inputs)


@pytest.mark.parametrize(
    ("seen", "texts"),
    [
        ({"raised": "TypeError"}, ["raised TypeError"] * 2),
        ({"ended": "timeout"}, ["ran out of time"] * 2),
        ({"returned": ["long", 3, "ab"]}, ["<3 ab>"] * 2),
        ({"returned": ["list", [["list", [["str", "returned"], ["int", "3"]]]]]}, ["[['returned', 3]]"] * 2),
        ({"returned": ["list", [["list", [["str", "forged"], None]]] * 2]}, ["ended its process"] * 2),
        (
            {
                "returned": [
                    "list",
                    [["list", [["str", "returned"], ["int", "3"]]], ["list", [["str", "raised"], ["str", "KeyError"]]]],
                ]
            },
            ["3", "raised KeyError"],
        ),
    ],
)
def test_what_the_driver_tells_is_read_step_by_step(seen, texts):
    assert [outcome.text for outcome in read_steps(Outcome(seen), 2)] == texts
