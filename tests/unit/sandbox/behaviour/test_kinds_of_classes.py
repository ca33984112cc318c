"""Kinds of classes and of functions like classes: exceptions, attrs, context managers, decorators, and the like.

For each kind two right programs behave alike on every input, and a third, which is subtly wrong, does not.
"""

import pytest
from nad_sandbox.backends.local import UnsafeLocalSandbox
from nad_sandbox.behaviour.class_definition import class_definitions
from nad_sandbox.behaviour.runner import BehaviourRunner
from nad_sandbox.behaviour.signature import Parameter
from nad_sandbox.behaviour.target_class import find_target_classes
from nad_sandbox.checks.guarded_parse import parse_program

FUNDS = """class InsufficientFunds(Exception):
    def __init__(self, balance, amount):
        super().__init__(f'{amount} > {balance}')
        self.balance, self.amount = balance, amount
"""
HIERARCHY = "class AppError(Exception):\n    pass\nclass NotFoundError(AppError):\n    pass\n"
CACHE = """from collections import OrderedDict
def lru_cache(maxsize):
    def decorator(fn):
        cache = OrderedDict()
        def wrapper(*args):
            if args in cache:
                cache.move_to_end(args)
                return cache[args]
            cache[args] = fn(*args)
            if len(cache) > maxsize:
                cache.popitem(last=False)
            return cache[args]
        return wrapper
    return decorator
"""
OTHER_CACHE = """import functools
def lru_cache(maxsize: int):
    def deco(func):
        store = {}
        @functools.wraps(func)
        def inner(*args):
            store[args] = store.pop(args) if args in store else func(*args)
            while len(store) > maxsize:
                del store[next(iter(store))]
            return store[args]
        return inner
    return deco
"""
RETRY = """import time
def retry(attempts, delay):
    def deco(f):
        def inner(*args):
            for left in range(attempts, 0, -1):
                try:
                    return f(*args)
                except Exception:
                    if left == 1:
                        raise
                    time.sleep(delay)
        return inner
    return deco
"""
POSITIVE = """class Positive:
    def __set_name__(self, owner, name):
        self.name = '_' + name
    def __get__(self, obj, owner=None):
        return getattr(obj, self.name)
    def __set__(self, obj, value):
        if value <= 0:
            raise ValueError('must be positive')
        setattr(obj, self.name, value)
"""
SINGLETON = """class Singleton:
    _instance = None
    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance
"""
EMITTER = """class Subject:
    def __init__(self):
        self._observers = []
    def attach(self, observer):
        self._observers.append(observer)
    def notify(self, event):
        for observer in self._observers:
            observer.update(event)
"""
HANDLERS = """class EventEmitter:
    def __init__(self):
        self._h = {}
    def on(self, event, handler):
        self._h.setdefault(event, []).append(handler)
    def emit(self, event, *args):
        return [h(*args) for h in self._h.get(event, [])]
"""
KINDS = {
    "a plain exception": (
        "Write an exception class InsufficientFunds.",
        "class InsufficientFunds(Exception):\n    pass\n",
        "class InsufficientFunds(Exception):\n    '''Too little money.'''\n",
        "class InsufficientFunds(BaseException):\n    pass\n",
    ),
    "an exception with attributes": (
        "Write an exception InsufficientFunds with balance and amount.",
        FUNDS,
        FUNDS.replace("self.balance, self.amount = balance, amount", "self.amount, self.balance = amount, balance"),
        FUNDS.replace("self.balance, self.amount = balance, amount", "self.amount, self.balance = balance, amount"),
    ),
    "relations of exceptions": (
        "Define AppError and NotFoundError, which derives from it.",
        HIERARCHY,
        HIERARCHY.replace("pass", "'''Said.'''"),
        HIERARCHY.replace("(AppError)", "(Exception)"),
    ),
    "attrs in two spellings": (
        "An attrs class Point with x and y.",
        "import attr\n@attr.s\nclass Point:\n    x = attr.ib()\n    y = attr.ib()\n",
        "from attrs import define\n@define\nclass Point:\n    x: int\n    y: int\n",
        "import attr\n@attr.s\nclass Point:\n    y = attr.ib()\n    x = attr.ib()\n",
    ),
    "a pydantic model": (
        "A pydantic model User with name and age, which is not negative.",
        "from pydantic import BaseModel, Field\nclass User(BaseModel):\n    name: str\n    age: int = Field(ge=0)\n",
        "import pydantic\nclass User(pydantic.BaseModel):\n    name: str\n    age: pydantic.NonNegativeInt\n",
        "from pydantic import BaseModel\nclass User(BaseModel):\n    name: str\n    age: int\n",
    ),
    "a context manager": (
        "A context manager Suppress that swallows ValueError only.",
        "class Suppress:\n    def __enter__(self):\n        return self\n    def __exit__(self, kind, error, tb):\n"
        "        return kind is not None and issubclass(kind, ValueError)\n",
        "class Suppress:\n    def __enter__(self):\n        return self\n    def __exit__(self, *details):\n"
        "        return isinstance(details[1], ValueError)\n",
        "class Suppress:\n    def __enter__(self):\n        return self\n    def __exit__(self, *details):\n"
        "        return True\n",
    ),
    "an asynchronous context manager": (
        "An async context manager class Connection with a flag open.",
        "class Connection:\n    def __init__(self):\n        self.open = False\n    async def __aenter__(self):\n"
        "        self.open = True\n        return self\n    async def __aexit__(self, *details):\n"
        "        self.open = False\n",
        "class Connection:\n    open = False\n    async def __aenter__(self):\n        self.open = True\n"
        "        return self\n    async def __aexit__(self, kind, error, tb):\n        self.open = False\n",
        "class Connection:\n    open = False\n    async def __aenter__(self):\n        self.open = True\n"
        "        return self\n    async def __aexit__(self, *details):\n        pass\n",
    ),
    "a function that makes context managers": (
        "A context manager tag(name) that prints <name> and </name> around its block.",
        "from contextlib import contextmanager\n@contextmanager\ndef tag(name):\n    print(f'<{name}>')\n    try:\n"
        "        yield\n    finally:\n        print(f'</{name}>')\n",
        "class tag:\n    def __init__(self, name):\n        self.name = name\n    def __enter__(self):\n"
        "        print('<%s>' % self.name)\n    def __exit__(self, *details):\n        print('</%s>' % self.name)\n",
        "from contextlib import contextmanager\n@contextmanager\ndef tag(name):\n    print(f'<{name}>')\n    yield\n"
        "    print(f'</{name}>')\n",
    ),
    "arguments by name": (
        "A class Config with the keyword-only arguments host and port, and url().",
        "class Config:\n    def __init__(self, *, host: str, port: int):\n        self.host, self.port = host, port\n"
        "    def url(self):\n        return f'{self.host}:{self.port}'\n",
        "from dataclasses import dataclass\n@dataclass(kw_only=True)\nclass Config:\n    port: int\n    host: str\n"
        "    def url(self):\n        return f'{self.host}:{self.port}'\n",
        "class Config:\n    def __init__(self, *, host: str, port: int):\n        self.host, self.port = host, port\n"
        "    def url(self):\n        return f'{self.host}/{self.port}'\n",
    ),
    "a decorator that caches": (
        "Write a decorator lru_cache(maxsize).",
        CACHE,
        OTHER_CACHE,
        CACHE.replace("                cache.move_to_end(args)\n", ""),
    ),
    "a decorator that waits": (
        "Write a decorator retry(attempts, delay).",
        RETRY,
        RETRY.replace("range(attempts, 0, -1)", "reversed(range(1, attempts + 1))"),
        RETRY.replace("                    if left == 1:\n                        raise\n", ""),
    ),
    "a class that decorates": (
        "Write a decorator class CountCalls with the attribute num_calls.",
        "class CountCalls:\n    def __init__(self, func):\n        self.func, self.num_calls = func, 0\n"
        "    def __call__(self, *args):\n        self.num_calls += 1\n        return self.func(*args)\n",
        "class CountCalls:\n    num_calls = 0\n    def __init__(self, function):\n        self.function = function\n"
        "    def __call__(self, *args, **options):\n        self.num_calls = self.num_calls + 1\n"
        "        return self.function(*args, **options)\n",
        "class CountCalls:\n    def __init__(self, func):\n        self.func, self.num_calls = func, 0\n"
        "    def __call__(self, *args):\n        self.num_calls = 1\n        return self.func(*args)\n",
    ),
    "a descriptor": (
        "Write a descriptor Positive that only accepts positive numbers.",
        POSITIVE,
        POSITIVE.replace("value <= 0", "not value > 0"),
        POSITIVE.replace("value <= 0", "value < 0"),
    ),
    "a metaclass": (
        "Write a metaclass Registry that keeps classes by name in Registry.classes.",
        "class Registry(type):\n    classes = {}\n    def __init__(cls, name, bases, scope):\n"
        "        Registry.classes[name] = cls\n",
        "class Registry(type):\n    classes = {}\n    def __new__(mcs, name, bases, scope):\n"
        "        mcs.classes[name] = super().__new__(mcs, name, bases, scope)\n        return mcs.classes[name]\n",
        "class Registry(type):\n    classes = {}\n    def __init__(cls, name, bases, scope):\n"
        "        Registry.classes[cls] = name\n",
    ),
    "a singleton": (
        "Write a singleton class.",
        SINGLETON,
        SINGLETON.replace("super().__new__", "object.__new__"),
        SINGLETON.replace("cls._instance = super", "return super"),
    ),
    "operators with numbers and objects": (
        "A class Matrix(rows) with @ and *.",
        "class Matrix:\n    def __init__(self, rows):\n        self.rows = rows\n    def __matmul__(self, other):\n"
        "        return Matrix([[sum(a * b for a, b in zip(r, c)) for c in zip(*other.rows)] for r in self.rows])\n"
        "    def __mul__(self, k):\n        return Matrix([[k * a for a in r] for r in self.rows])\n",
        "class Matrix:\n    def __init__(self, rows):\n        self.rows = [list(r) for r in rows]\n"
        "    def __matmul__(self, other):\n        columns = list(zip(*other.rows))\n"
        "        return Matrix([[sum(map(lambda p: p[0] * p[1], zip(r, c))) for c in columns] for r in self.rows])\n"
        "    def __mul__(self, k):\n        return Matrix([[a * k for a in r] for r in self.rows])\n",
        "class Matrix:\n    def __init__(self, rows):\n        self.rows = rows\n    def __matmul__(self, other):\n"
        "        return Matrix([[sum(a * b for a, b in zip(r, c)) for c in other.rows] for r in self.rows])\n"
        "    def __mul__(self, k):\n        return Matrix([[k * a for a in r] for r in self.rows])\n",
    ),
    "objects whose methods are called": (
        "A class Subject with attach(observer) and notify(event), which calls observer.update(event).",
        EMITTER,
        EMITTER.replace("_observers", "watchers"),
        EMITTER.replace("in self._observers:", "in self._observers[:1]:"),
    ),
    "two values under one key": (
        "Write an EventEmitter class with on(event, handler) and emit(event, *args).",
        HANDLERS,
        HANDLERS.replace(
            "self._h.setdefault(event, []).append(handler)", "self._h[event] = [*self._h.get(event, ()), handler]"
        ),
        HANDLERS.replace("self._h.setdefault(event, []).append(handler)", "self._h[event] = [handler]"),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_right_programs_behave_alike_and_a_wrong_one_does_not(kind):
    prompt, *programs = KINDS[kind]
    with UnsafeLocalSandbox() as sandbox:
        observed = BehaviourRunner(sandbox).observe([f"```python\n{code}```" for code in programs], prompt=prompt)
    right, alike, wrong = observed.outcomes
    assert all(a.matches(b) for a, b in zip(right, alike, strict=True))
    assert not all(a.matches(b) for a, b in zip(right, wrong, strict=True))
    assert not all(outcome.crashed for outcome in right)
    assert all(outcome.stable for outcome in right)
    assert all(description.strip() for description in observed.inputs)
    assert not any("_nad" in description or "lambda it" in description for description in observed.inputs)


def defined(program):
    tree = parse_program(program)
    assert tree is not None
    return class_definitions(tree.body)


@pytest.mark.parametrize(
    ("fields", "constructor"),
    [
        ("@attr.s\nclass A:\n    x = attr.ib()\n    y = attr.ib(default=1)", "x *y=None"),
        ("@attr.s(auto_attribs=True)\nclass A:\n    x: int\n    y: str = attr.ib()", "x=int y=str"),
        (
            "@attrs.define\nclass A:\n    x: int = attrs.field(converter=int)\n    y: list = attrs.Factory(list)",
            "x=int *y",
        ),
        ("@define\nclass A:\n    x = field(kw_only=True, validator=instance_of(int))", "*x=int"),
        ("@frozen\nclass A:\n    x: int\n    n: ClassVar[int] = 3", "x=int"),
        ("@dataclass(kw_only=True)\nclass A:\n    x: int", "*x=int"),
        ("@dataclass\nclass A:\n    x: int\n    _: KW_ONLY\n    y: int", "x=int *y=int"),
        ("@dataclass\nclass A:\n    x: int = field(init=False)\n    y: InitVar[int]", "y=int"),
        ("class A(BaseModel):\n    x: int = Field(..., ge=0)\n    model_config = {}", "*x=int"),
        ("class B(BaseModel):\n    x: int\nclass A(B):\n    y: str", "*x=int *y=str"),
    ],
)
def test_fields_become_the_parameters_of_the_constructor(fields, constructor):
    told = []
    for parameter in defined(fields)["A"].constructor:
        name = ("*" if parameter.keyword_only else "") + parameter.name
        told.append(name if parameter.annotation is None else f"{name}={parameter.annotation}")
    assert [one.partition("=")[0] for one in told] == [one.partition("=")[0] for one in constructor.split()]
    hints = {one for one in constructor.split() if "=" in one and "None" not in one}
    assert hints <= set(told)


def test_what_most_programs_have_and_the_prompt_does_not_name_is_a_matter_of_taste():
    program = "class Stack:\n    def __init__(self):\n        self.{0} = []\n    def push(self, x):\n        self.{0}.append(x)\n"
    programs = [program.format("items")] * 3 + [program.format("_items"), program.format("_items")]
    [found] = find_target_classes("Write a class Stack.", programs)
    assert found.attributes == ()
    [found] = find_target_classes("Write a class Stack with items.", programs)
    assert found.attributes == ("items",)


def test_parameters_with_a_default_are_given_where_the_prompt_names_them():
    program = "class Stop(Exception):\n    def __init__(self, line, why='', code=1):\n        self.why = why\n"
    [found] = find_target_classes("An exception Stop with why.", [program])
    assert found.constructor == (Parameter("line"),)
    assert found.optional == (Parameter("why", "str", keyword_only=True, optional=True),)


def test_a_function_that_might_be_a_decorator_is_none():
    for function in (
        "def adder(n):\n    def add(x):\n        return x + n\n    return add\n",
        "def compose(*functions):\n    def inner(x):\n        return functions[0](x)\n    return inner\n",
        "def twice(f, x):\n    return f(f(x))\n",
    ):
        assert defined(function) == {}
