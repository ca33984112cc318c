"""What programs are run on: the target function, the prompt's examples, values made from hints and names."""

import ast
import re

import jsonschema
import pytest
from nad_sandbox.behaviour.inputs import call_inputs, function_inputs, script_inputs
from nad_sandbox.behaviour.json_schema import json_schema, json_value
from nad_sandbox.behaviour.own_types import own_types
from nad_sandbox.behaviour.parameter_types import parameter_types
from nad_sandbox.behaviour.target_function import (
    Parameter,
    TargetFunction,
    find_target_function,
    find_target_functions,
    reads_standard_input,
)
from nad_sandbox.behaviour.value_generation import generate_arguments


def rows_of(*annotations, names=None, examples=(), count=24):
    names = names or [f"p{i}" for i in range(len(annotations))]
    parameters = [Parameter(name, hint) for name, hint in zip(names, annotations, strict=True)]
    return generate_arguments(parameter_types(parameters, examples), count)


@pytest.mark.parametrize(
    ("hint", "check"),
    [
        ("int", lambda v: type(v) is int),
        ("float", lambda v: type(v) is float),
        ("str", lambda v: type(v) is str),
        ("bool", lambda v: type(v) is bool),
        ("List[int]", lambda v: type(v) is list and all(type(x) is int for x in v)),
        ("list[list[str]]", lambda v: all(type(x) is list and all(type(y) is str for y in x) for x in v)),
        ("Dict[str, int]", lambda v: all(type(k) is str and type(x) is int for k, x in v.items())),
        ("Optional[str]", lambda v: v is None or type(v) is str),
        ("int | None", lambda v: v is None or type(v) is int),
        ("typing.Union[int, str]", lambda v: type(v) in (int, str)),
        ("Tuple[int, str]", lambda v: type(v) is tuple and type(v[0]) is int and type(v[1]) is str),
        ("tuple[int, ...]", lambda v: type(v) is tuple and all(type(x) is int for x in v)),
        ("set[int]", lambda v: type(v) is set),
        ("'list[int]'", lambda v: type(v) is list),
        ("Sequence[float]", lambda v: type(v) is list and all(type(x) is float for x in v)),
    ],
)
def test_values_are_of_the_hinted_type_and_plain(hint, check):
    rows = rows_of(hint)
    assert len(rows) >= (2 if hint == "bool" else 6)
    for (value,) in rows:
        assert check(value), value
        assert ast.literal_eval(repr(value) if value != set() else "()") == value or value == set()


def test_boundary_values_come_first_and_nothing_is_random():
    assert [row[0] for row in rows_of("str", count=8)[:3]] == ["", "a", "ab"]
    assert rows_of("List[int]", "int") == rows_of("List[int]", "int")
    assert rows_of("list[int]")[0] == ([],)


def test_without_a_hint_the_examples_count_then_the_name():
    assert all(type(row[0]) is str for row in rows_of(None, examples=[["x"], ["yy"]]))
    assert all(type(row[0]) is list for row in rows_of(None, names=["numbers"]))
    assert all(type(row[0]) is str for row in rows_of(None, names=["text"]))
    # never negative in the examples: a count
    assert all(row[0] >= 0 for row in rows_of("int", examples=[[3], [5]]))
    assert any(row[0] < 0 for row in rows_of("int", examples=[[3], [-5]]))
    # a list that is empty in one example is what the other example says
    assert all(type(x) is str for row in rows_of(None, examples=[[[]], [["a"]]]) for x in row[0])


def test_a_function_without_parameters_is_called_once():
    assert generate_arguments([], 5) == [()]


def test_the_target_is_what_the_prompt_asks_for():
    programs = [
        "def helper(x):\n    return x\n\ndef f(a: int, b=2):\n    return helper(a)",
        "def f(a): return a",
        "broken(",
    ]
    prompt = "def f(a: List[int]):\n    '''Sum.'''"
    assert find_target_function(prompt, programs) == TargetFunction("f", (Parameter("a", "List[int]"),))
    assert find_target_function("Write `helper(x)`", programs).callee == "helper"
    assert find_target_function("no name", ["def one(x): pass", "def g(y): pass", "def g(y): pass"]).callee == "g"
    assert find_target_function("", ["class Solution:\n    def go(self, n: int): pass"]) == TargetFunction(
        "Solution().go", (Parameter("n", "int"),)
    )
    assert find_target_function("", ["print(1)", "print(2)", "def f(): pass"]) is None
    assert reads_standard_input("n = int(input())")
    assert not reads_standard_input("inputs = 3")


def texts_of(program, prompt="", **options):
    return call_inputs(prompt, find_target_function(prompt, [program]), count=24, **options)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("def f(g, x): return g(x)", 1),
        ("def f(g: Callable, x): return g(x, x)", 2),
        ("def f(g: typing.Callable[[int, int], int], x): return x", 2),
        ("def f(g: Callable[..., int], x): return x", 1),
        ("def f(g, x): return list(map(g, [x]))", 1),
        ("def f(g, x): return sorted([x], key=g)", 1),
        ("def f(g, x): return functools.reduce(g, [x])", 2),
        ("f = lambda g, x: g()", 0),
    ],
)
def test_a_parameter_that_is_called_gets_functions(program, arguments):
    made = texts_of(program, propose=lambda prompt, schemas: pytest.fail("JSON has no functions"))
    values = [ast.parse(text, mode="eval").body.args[0] for text in made.texts]
    assert len({ast.dump(value) for value in values}) > 2
    assert all(isinstance(value, ast.Lambda) and len(value.args.args) == arguments for value in values)


def test_a_hint_of_the_prompt_that_says_less_than_the_program_does_not_count():
    made = texts_of("def f(g, x): return g(x, x)", "def f(g: Callable, x: str):\n    ...")
    assert all(text.startswith("f(lambda a, b: ") for text in made.texts)


def test_parameters_that_are_given_by_name_are():
    made = texts_of("def clamp(x: int, *, low: int, high: int = 9): return x")
    assert all(re.fullmatch(r"clamp\(-?\d+, low=-?\d+\)", text) for text in made.texts)
    proposed = texts_of("def clamp(x, *, low): return x", propose=lambda prompt, schemas: [[1, 2], {"x": 3, "low": 4}])
    assert {"clamp(1, low=2)", "clamp(3, low=4)"} <= set(proposed.texts)
    longer = ["def f(x, *, low=0): return x", "def f(x, *, low): return x"]
    assert [p.name for p in find_target_function("", longer).parameters] == ["x", "low"]


def test_any_number_of_arguments_are_given():
    made = texts_of("def total(*args): return sum(args)")
    counts = {len(ast.parse(text, mode="eval").body.args) for text in made.texts}
    assert {0, 1, 2, 3} <= counts
    assert "total()" in made.texts
    words = texts_of(
        "def join(sep, *words: str, **options): return sep", "join('-', 'a', 'b')\n>>> join('-', 'a')\n'a'"
    )
    calls = [ast.parse(text, mode="eval").body for text in words.texts]
    assert all(type(ast.literal_eval(argument)) is str for call in calls for argument in call.args[1:])
    assert any(len(call.args) > 2 and len(call.keywords) > 1 for call in calls)
    composed = texts_of("def compose(*funcs): return funcs", propose=lambda prompt, schemas: pytest.fail("functions"))
    assert any(text.count("lambda x") > 1 for text in composed.texts)
    made = texts_of("def total(*numbers): return sum(numbers)", propose=lambda prompt, schemas: [[7, 8, 9]])
    assert "total(7, 8, 9)" in made.texts
    assert all(text.count("(") == 1 for text in texts_of("def low(a=1, *args): return a").texts)


def test_paths_are_those_of_files_that_exist():
    for program in ("def f(path): pass", "def f(file_name: str): pass", "def f(where: pathlib.Path): pass"):
        made = texts_of(program)
        assert ("f(Path('words.txt'))" if "Path" in program else "f('words.txt')") in made.texts
        assert "words.txt" in made.driver
    assert texts_of("def f(path: list[int]): pass").driver == ""


def test_examples_come_first_and_take_half_at_most():
    target = TargetFunction("f", (Parameter("a", "int"), Parameter("b", "int")))
    prompt = "\n".join(f">>> f({i}, {i + 1})\n{i}" for i in range(10))
    made = call_inputs(prompt, target, count=8)
    assert made.texts[:4] == ("f(0, 1)", "f(1, 2)", "f(2, 3)", "f(3, 4)")
    assert (made.examples, len(made.texts), len(set(made.texts))) == (4, 8, 8)


def test_proposed_inputs_are_mixed_in_and_checked():
    target = TargetFunction("f", (Parameter("a", "int"),))
    made = call_inputs("", target, count=12, propose=lambda _, names: [[77], {"b": 78}, "f(79)", [77], {"a": 80}])
    assert {"f(77)", "f(b=78)", "f(79)", "f(80)"} <= set(made.texts)
    for bad in (3, "import os", "g(1)", [object()], {"a": object()}, "f(__import__('os'))"):
        with pytest.raises(ValueError, match="cannot be used"):
            call_inputs("", target, count=6, propose=lambda _, names, bad=bad: [bad])


def test_a_proposer_is_told_each_parameters_schema_and_its_json_becomes_the_values_meant():
    hints = ("Tuple[int, str]", "set[int]", "Dict[int, float]", "Dict[str, List[int]]", "bytes", "bool | None")
    target = TargetFunction("f", tuple(Parameter(f"p{i}", hint) for i, hint in enumerate(hints)))
    given = {"p0": [1, "a"], "p1": [2, 2], "p2": [[1, 2]], "p3": {"k": [3]}, "p4": "b", "p5": None}
    told = []

    def propose(prompt, schemas):
        told.append(schemas)
        jsonschema.validate(given, {"properties": schemas, "required": list(schemas)})
        return [given]

    made = call_inputs("", target, count=40, propose=propose)
    assert "f((1, 'a'), {2}, {1: 2.0}, {'k': [3]}, b'b', None)" in made.texts
    assert told[0]["p2"]["items"]["prefixItems"] == [{"type": "integer"}, {"type": "number"}]


def test_json_of_another_form_than_asked_for_stays_as_it_is():
    for hint, data in (("List[int]", "x"), ("Tuple[int, int]", [1]), ("Dict[int, int]", [1]), ("int", [1])):
        (kind,) = parameter_types([Parameter("p", hint)], [])
        assert json_value(kind, data) == data
        jsonschema.Draft202012Validator.check_schema(json_schema(kind))


def test_what_a_script_reads_comes_from_the_samples():
    prompt = "Add them.\n\nSample Input 1:\n2 3\nSample Output 1:\n5\n\nSample Input 2:\n4 5\nSample Output 2:\n9\n"
    made = script_inputs(prompt, count=4, propose=lambda _, names: ["7 8\n"])
    assert made.texts == ("2 3\n", "4 5\n", "7 8\n")
    assert made.examples == 2
    assert script_inputs("print hello", count=4).texts == ("",)
    with pytest.raises(ValueError, match="is not text"):
        script_inputs("", count=4, propose=lambda _, names: [[1]])


def test_a_hint_that_is_nested_too_deeply_says_nothing():
    for hint in ("int" + " | int" * 330, "1" + "+1" * 900):
        assert parameter_types([Parameter("p", hint)], [])


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        ("Decimal", "Decimal('19.99')"),
        ("datetime.date", "date(2024, 2, 29)"),
        ("datetime", "datetime(2024, 1, 1)"),
        ("Path | None", "Path('words.txt')"),
        ("TextIO", "StringIO('')"),
        ("IO[str]", "StringIO('')"),
        ("BinaryIO", "BytesIO(b'')"),
        ("Literal['C', 'F']", "'F'"),
        ("frozenset[int]", "frozenset()"),
        ("set[frozenset[int]]", "set()"),
        ("dict[list[int], int]", "{}"),
        ("Annotated[str, 'a name']", "'aba'"),
        ("Optional['Decimal']", "None"),
        ("Callable[[int], Awaitable[int]]", "async_function(lambda x: x * 2)"),
        ("List[Tuple[Decimal, date]]", "[]"),
    ],
)
def test_values_of_types_of_the_library_are_given_as_source(hint, value):
    assert value in [repr(row[0]) for row in rows_of(hint, count=40)]


def test_how_a_function_uses_a_parameter_says_what_it_is():
    flatten = (
        "def flatten(d, prefix=''):\n    return {k: flatten(v) if isinstance(v, dict) else v for k, v in d.items()}"
    )
    assert any(text.count("{") > 2 for text in texts_of(flatten).texts)
    assert any("[[" in text for text in texts_of("def flat(xs):\n    return [isinstance(x, list) for x in xs]").texts)
    # a check of the argument itself does not say that it holds lists
    assert "[[" not in str(texts_of("def mean(numbers):\n    assert isinstance(numbers, list)").texts)
    assert "StringIO" in texts_of("def count(f):\n    return len(f.read())").texts[0]
    assert "async_function" in texts_of("async def load(urls, get):\n    return [await get(u) for u in urls]").texts[1]
    assert "noted" in str(texts_of("def each(items, callback):\n    for i in items: callback(i)").texts)


NODES = """class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next
class TreeNode:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None
class Person(TypedDict):
    name: str
    age: int
class Sized(Protocol):
    def size(self) -> int: ...
class Color(Enum):
    RED = 1
class Shape(ABC):
    @abstractmethod
    def area(self): ...
class Square(Shape):
    def __init__(self, side: int):
        self.side = side
    def area(self):
        return self.side ** 2
def f(head, root, person, people: list[Person], sized: Sized, color: Color, shapes: list[Shape]): pass
"""


def test_values_of_the_programs_own_types_are_made():
    own = own_types([NODES, NODES, "broken("])
    assert "ListNode(1, next=ListNode(3))" in own["head"]
    assert "with_attributes(TreeNode(3), left=TreeNode(1))" in own["root"]
    made = call_inputs("", find_target_function("", [NODES]), count=16, own=own)
    for part in ("ListNode(", "TreeNode(", "{'name': 'ab', 'age': ", "SimpleNamespace(size=", "Color.RED", "Square("):
        assert any(part in text for text in made.texts), part
    # a type that few programs define is none that all can be given
    assert own_types([NODES, "x = 1", "y = 2"]) == {}


CODES = "def encode(text):\n    return text\ndef decode(pairs):\n    return pairs\ndef helper(x):\n    return x\n"


def test_all_functions_that_the_prompt_names_are_called_and_proposed_for():
    targets = find_target_functions("Write functions encode and decode.", [CODES, CODES])
    assert {target.callee for target in targets} == {"encode", "decode"}
    assert len(find_target_functions("Write a function encode that undoes decode.", [CODES, CODES])) == 1
    told = []

    def propose(prompt, schemas):
        told.append(schemas)
        return [{"function": "encode", "arguments": ["zebra"]}, "decode([(1, 2)])", {"pairs": [[8, 9]]}]

    made = function_inputs("", targets, count=16, propose=propose)
    assert {"encode('zebra')", "decode([(1, 2)])", "decode([(8, 9)])"} <= set(made.texts)
    assert set(told[0]["function"]["enum"]) == {"encode", "decode"}
    assert sum(text.startswith("encode(") for text in made.texts) == 8
    with pytest.raises(ValueError, match=r"such as \w+\(\.\.\.\) or \w+\(\.\.\.\)"):
        function_inputs("", targets, count=4, propose=lambda prompt, schemas: [{"function": "encode", "arguments": 3}])


def test_parameters_with_a_default_are_given_where_the_prompt_names_them():
    program = "def greet(name, greeting='Hello', loud=False): return name"
    made = texts_of(program, "Write greet(name, greeting) in Python.")
    assert any("greeting='" in text for text in made.texts)
    assert any("greeting" not in text for text in made.texts)
    assert "loud" not in str(made.texts)
