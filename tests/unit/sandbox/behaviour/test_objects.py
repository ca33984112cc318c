"""Classes: which one is observed, the steps that are taken on its objects, and what is told of each."""

import ast

import jsonschema
import pytest
from nad_sandbox.backends.local import UnsafeLocalSandbox
from nad_sandbox.behaviour.object_inputs import class_inputs, object_inputs, sequence_schema
from nad_sandbox.behaviour.outcome import Outcome, read_steps
from nad_sandbox.behaviour.runner import BehaviourRunner
from nad_sandbox.behaviour.signature import Parameter
from nad_sandbox.behaviour.target_class import Method, TargetClass, find_target_classes

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
    [found] = find_target_classes(PROMPT, [ACCOUNT, SPOKEN, other, "broken("])
    assert found == TargetClass(
        "BankAccount",
        (Parameter("owner", "str"),),
        (Method("deposit", (Parameter("amount", "float"),)), Method("withdraw", (Parameter("amount", "float"),))),
        ("balance", "owner"),
        optional=(Parameter("balance", "int", keyword_only=True, optional=True),),
    )


@pytest.mark.parametrize(
    ("prompt", "program", "name"),
    [
        ("Write a class for a stack.", "class Stack:\n    def push(self, x): pass", "Stack"),
        ("Make a Stack.", "class Stack:\n    def push(self, x): pass", "Stack"),
        # the function is asked for, and the class is its helper
        ("Write a function f on a class Node.", "class Node:\n    def n(self): pass\ndef f(x): pass", None),
        ("def f(x):\n    '''Uses class Node.'''", "class Node:\n    def n(self): pass\ndef f(x): pass", None),
        ("Add two numbers.", "class Adder:\n    def add(self, a, b): pass", "Adder"),
        ("Add two numbers.", "class Adder:\n    def add(self, a, b): pass\ndef add(a, b): pass", None),
        ("Write a class.", "class Solution:\n    def go(self, n): pass", None),
        ("Write an exception class.", "class Wrong(ValueError):\n    def go(self, n): pass", "Wrong"),
        ("Make a dataclass.", "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int", "P"),
        ("An enum for colors.", "class Color(Enum):\n    RED = 1", "Color"),
        ("Write a class.", "class Kinds(Enum):\n    pass", None),
        ("Write a class.", "P = namedtuple('P', 'x y')", "P"),
        ("An abstract class Shape.", "class Shape(ABC):\n    @abstractmethod\n    def area(self): pass", None),
        (
            "An abstract class Shape, and a square.",
            "class Shape(abc.ABC):\n    @abc.abstractmethod\n    def area(self): pass\n"
            "class Square(Shape):\n    def area(self): return 1",
            "Square",
        ),
        ("A generic class Box.", "class Box(Generic[T]):\n    def get(self): pass", "Box"),
        ("A protocol.", "class Sized(Protocol[T]):\n    def size(self): pass", None),
        ("Write a class.", "class Empty:\n    pass", None),
        ("Write a class.", "def f(): pass", None),
    ],
)
def test_when_a_class_is_observed(prompt, program, name):
    found = find_target_classes(prompt, [program, program])
    assert [target.name for target in found] == ([name] if name else [])


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
    [found] = find_target_classes("A class Point.", [program])
    assert found == TargetClass(
        "Point",
        (Parameter("x", "int"),),
        (Method("moved", (Parameter("dx", "int"),)), Method("parse", (Parameter("text"),)), Method("make")),
        ("norm", "x", "y"),
        ("len", "str"),
        operators=("it == other",),
    )


def test_sequences_call_every_method_and_look_at_the_object_and_are_the_same_each_time():
    [target] = find_target_classes(PROMPT, [ACCOUNT])
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
        assert ast.unparse(tree.args[0].body).startswith("BankAccount('")


def test_proposed_sequences_are_mixed_in_and_checked():
    [target] = find_target_classes(PROMPT, [ACCOUNT])
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


SHAPES = """class Square:
    def __init__(self, side: int):
        self.side = side
    def area(self):
        return self.side ** 2
class Circle:
    def __init__(self, *, radius: float):
        self.radius = radius
    def grow(self, by: float):
        self.radius += by
"""


def test_proposals_are_taken_for_whichever_of_several_classes_they_concern():
    targets = find_target_classes("Classes Square and Circle.", [SHAPES])
    schema = sequence_schema(targets)
    assert set(schema["class"]["enum"]) == {"Square", "Circle"}
    named = {"class": "Square", "constructor_arguments": [41], "method_calls": [{"method": "area", "arguments": []}]}
    # a method of another class than the one that is named
    mixed = {"class": "Square", "constructor_arguments": [42], "method_calls": [{"method": "grow", "arguments": [43]}]}
    both = {
        "class": "Circle",
        "constructor_arguments": [44],
        "method_calls": [*named["method_calls"], *mixed["method_calls"]],
    }
    for item in (named, mixed, both):
        jsonschema.validate(item, {"properties": schema, "required": list(schema), "additionalProperties": False})
    made = class_inputs("", targets, count=12, propose=lambda prompt, schemas: [named, mixed, both])
    assert "Square(41); area()" in made.descriptions
    assert "Circle(radius=42); grow(43)" in made.descriptions
    assert "Circle(radius=44); grow(43); radius" in made.descriptions
    only = class_inputs("", targets, count=4, propose=lambda prompt, schemas: [mixed], proposed_only=True)
    assert only.descriptions == ("Circle(radius=42); grow(43)", "Circle(radius=42); grow(43); radius")
    with pytest.raises(ValueError, match="cannot be used: give a mapping"):
        class_inputs("", targets, count=4, propose=lambda prompt, schemas: [{**named, "method_calls": [3]}])


def test_an_exception_is_proposed_by_its_arguments_alone():
    [target] = find_target_classes("An exception Wrong.", ["class Wrong(Exception): pass"])
    assert list(sequence_schema(target)) == ["constructor_arguments"]
    made = object_inputs("", target, count=8, propose=lambda prompt, schemas: [{"constructor_arguments": ["no"]}])
    assert "Wrong('no'); args" in made.descriptions


def test_an_exception_that_a_method_raises_on_purpose_is_a_result_and_a_mistake_is_none():
    returned = ["list", [["list", [["str", "raised"], ["str", name]]] for name in ("ValueError", "TypeError")]]
    steps = read_steps(Outcome({"returned": returned, "files": ["dict", []]}), 2)
    assert [step.crashed for step in steps] == [False, True]
    assert [sorted(step.seen) for step in steps] == [["raised"], ["files", "raised"]]
    returned = ["list", [["list", [["str", "raised on purpose"], ["str", "TypeError"]]]]]
    [step] = read_steps(Outcome({"returned": returned}), 1)
    assert (step.text, step.crashed) == ("raised TypeError", False)
    assert Outcome({"raised": "ValueError"}).crashed


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
        ({"returned": ["long", 3, "ab"]}, ["<a long result: 3 characters, SHA-256 ab>"] * 2),
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


DATACLASSES = (
    "from dataclasses import dataclass, field\n@dataclass(order=True)\nclass Point:\n    x: int\n    y: int\n"
    "    tags: list[str] = field(default_factory=list)\n",
    "class Point:\n    def __init__(self, x, y):\n        self.x, self.y, self.tags = x, y, []\n"
    "    def __eq__(self, other):\n        return (self.x, self.y) == (other.x, other.y)\n"
    "    def __lt__(self, other):\n        return (self.x, self.y) < (other.x, other.y)\n",
    "class Point:\n    def __init__(self, x, y):\n        self.x, self.y, self.tags = x, y, []\n",
    "from dataclasses import dataclass\n@dataclass(eq=False)\nclass Point:\n    x: int\n    y: int\n    tags = []\n"
    "    def __lt__(self, other):\n        return (self.x, self.y) < (other.x, other.y)\n",
)
TUPLES = (
    "from typing import NamedTuple\nclass Pair(NamedTuple):\n    left: int\n    right: int\n",
    "from collections import namedtuple\nPair = namedtuple('Pair', ['left', 'right'])\n",
    "from collections import namedtuple\nPair = namedtuple('Pair', 'right left')\n",
)
ENUMS = (
    "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    GREEN = 2\n"
    "    def next(self):\n        return Color(3 - self.value)\n",
    "from enum import Enum, auto\nclass Color(Enum):\n    RED = auto()\n    GREEN = auto()\n"
    "    def next(self):\n        return Color.GREEN if self is Color.RED else Color.RED\n",
    "from enum import Enum\nclass Color(Enum):\n    RED = 'red'\n    GREEN = 'green'\n"
    "    def next(self):\n        return self\n",
)
INHERITED = (
    "class Animal:\n    def __init__(self, name):\n        self.name = name\n    def rename(self, name):\n"
    "        self.name = name\nclass Dog(Animal):\n    def speak(self):\n        return self.name + '!'\n",
    "class Dog:\n    def __init__(self, name):\n        self.name = name\n    def rename(self, name):\n"
    "        self.name = name\n    async def speak(self):\n        return f'{self.name}!'\n",
    "class Dog:\n    def __init__(self, name):\n        self.name = name\n    def rename(self, name):\n"
    "        pass\n    def speak(self):\n        return self.name\n",
)
FACTORIES = (
    "class Span:\n    def __init__(self, low: int, high: int):\n        self.low, self.high = low, high\n"
    "    @classmethod\n    def of_length(cls, n: int):\n        return cls(0, n)\n",
    "class Span:\n    def __init__(self, low: int, high: int):\n        self.low = low\n        self.high = high\n"
    "    @staticmethod\n    def of_length(n: int):\n        return Span(0, n)\n",
    "class Span:\n    def __init__(self, low: int, high: int):\n        self.low, self.high = low, high\n"
    "    @classmethod\n    def of_length(cls, n: int):\n        return cls(1, n)\n",
)
CONSTANTS = (
    "class Settings:\n    debug = False\n    retries = 3\n",
    "class Settings:\n    def __init__(self):\n        self.debug, self.retries = False, 3\n",
    "class Settings:\n    debug = True\n    retries = 3\n",
)

FROZEN = (
    "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Pair:\n    left: int\n    right: int\n",
    "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass Pair:\n    left: int\n    right: int\n",
    "from dataclasses import dataclass\n@dataclass\nclass Pair:\n    left: int\n    right: int\n",
)
SETTERS = tuple(
    "class Box:\n    def __init__(self, size: int):\n        self._size = size\n    @property\n    def size(self):\n"
    f"        return self._size\n    @size.setter\n    def size(self, value: int):\n        {body}\n"
    for body in ("self._size = max(value, 0)", "self._size = value if value > 0 else 0", "self._size = value")
)


@pytest.mark.parametrize(
    ("prompt", "programs", "same"),
    [
        ("A dataclass Point that can be ordered.", DATACLASSES, [True, True, False, False]),
        ("A NamedTuple Pair.", TUPLES, [True, True, False]),
        ("An enum Color with RED and GREEN.", ENUMS, [True, True, False]),
        ("A class Dog.", INHERITED, [True, True, False]),
        ("A class Span.", FACTORIES, [True, True, False]),
        ("A dataclass Pair that cannot be changed.", FROZEN, [True, True, False]),
        ("A class Box.", SETTERS, [True, True, False]),
        ("A class Settings.", CONSTANTS, [True, True, False]),
    ],
)
def test_every_kind_of_class_is_observed(prompt, programs, same):
    with UnsafeLocalSandbox() as sandbox:
        observed = BehaviourRunner(sandbox, max_inputs=6).observe(list(map(fenced, programs)), prompt=prompt)
    first = observed.outcomes[0]
    assert len(observed.inputs) >= 2
    assert all(description.strip() for description in observed.inputs)
    assert [all(a.matches(b) for a, b in zip(first, row, strict=True)) for row in observed.outcomes] == same
    assert not any(outcome.crashed and "TypeError" in outcome.text for outcome in first)
    assert all(outcome.stable for outcome in first)


def test_what_differs_between_runs_is_told_of_the_steps_that_show_it():
    task = (
        "import uuid\nclass Task:\n    def __init__(self, title: str):\n        self.key = uuid.uuid4().hex\n"
        "        self.title = title\n    def rename(self, title: str):\n        self.title = title\n"
    )
    with UnsafeLocalSandbox() as sandbox:
        observed = BehaviourRunner(sandbox, max_inputs=2).observe([fenced(task)], prompt="A class Task.")
    for description, outcome in zip(observed.inputs, observed.outcomes[0], strict=True):
        assert (outcome.text == "not deterministic") == description.endswith("; key")


def test_all_classes_that_the_prompt_names_are_observed():
    shapes = (
        "from abc import ABC, abstractmethod\nclass Shape(ABC):\n    @abstractmethod\n    def area(self): ...\n"
        "class Square(Shape):\n    def __init__(self, side: int):\n        self.side = side\n"
        "    def area(self):\n        return self.side ** 2\n"
        "class Rectangle(Shape):\n    def __init__(self, width: int, height: int):\n"
        "        self.width, self.height = width, height\n    def area(self):\n        return self.width * self.height\n"
    )
    wrong = shapes.replace("self.side ** 2", "self.side * 4")
    with UnsafeLocalSandbox() as sandbox:
        runner = BehaviourRunner(sandbox, max_inputs=6)
        observed = runner.observe(list(map(fenced, (shapes, wrong))), prompt="Classes Shape, Square and Rectangle.")
    makers = [description.partition("(")[0] for description in observed.inputs]
    assert set(makers) == {"Square", "Rectangle"}
    differing = {m for m, a, b in zip(makers, *observed.outcomes, strict=True) if not a.matches(b)}
    assert differing == {"Square"}
