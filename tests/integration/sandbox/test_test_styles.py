"""Tests as people write them, with pytest, unittest and mock: what holds passes, and what does not is seen."""

import pytest
from nad_sandbox import BubblewrapSandbox, CodeVerifier, Limits
from nad_sandbox.checks.verifier import UnsupportedTestsError

PROGRAM = """
import os, sys, random, time, warnings
from unittest import mock
LIMIT = 3
class Negative(ValueError): pass
class Account:
    def __init__(self, balance=0): self.balance = balance
    def put(self, x):
        if x < 0: raise Negative('negative')
        self.balance += x
        return self.balance
def add(a, b): return a + b
def say(): print('hello'); print('bad', file=sys.stderr)
def load(path): return open(path).read()
def save(path, text): open(path, 'w').write(text)
def env(): return os.environ.get('NAD_X')
def ask(): return input('? ')
def old():
    warnings.warn('outdated', DeprecationWarning)
    return 1
def main(): print(sys.argv[1:])
def fetch(get): return get('u')['k']
def roll(): return random.randint(1, 6)
def now(): return time.time()
def limit(): return LIMIT
def half(x): return x / 2
def join(parts: list, sep: str = ', ') -> str: return sep.join(parts)
"""

# in every one, the last == made != must be seen to fail
STYLES = {
    "signature": "import inspect\ndef test_x():\n    s = inspect.signature(join)\n    assert list(s.parameters) == ['parts', 'sep'] and s.parameters['sep'].default == ', '\n    assert s.parameters['parts'].annotation is list and s.return_annotation is str\n    assert inspect.signature(Account).parameters['balance'].default == 0",
    "fixture": "import pytest\n@pytest.fixture\ndef acc(): return Account(2)\ndef test_x(acc): assert acc.put(3) == 5",
    "fixture that gives back": "import pytest\nlog = []\n@pytest.fixture\ndef f():\n    log.append(1)\n    yield 7\n    log.append(2)\ndef test_a(f): assert f == 7\ndef test_b(): assert log == [1, 2]",
    "fixture of a module": "import pytest\nn = []\n@pytest.fixture(scope='module')\ndef f():\n    n.append(1)\n    return len(n)\ndef test_a(f): assert f == 1\ndef test_b(f): assert f == 1",
    "fixture of a class": "import pytest\nn = []\n@pytest.fixture(scope='class')\ndef f():\n    n.append(1)\n    yield len(n)\n    n.append(9)\nclass TestA:\n    def test_a(self, f): assert f == 1\n    def test_b(self, f): assert f == 1\ndef test_c(): assert n == [1, 9]",
    "fixture with parameters": "import pytest\nseen = []\n@pytest.fixture(params=[1, pytest.param(2, id='x')], ids=['a', 'b'])\ndef f(request): return request.param\ndef test_a(f): seen.append(add(f, 1))\ndef test_b(): assert seen == [2, 3]",
    "fixture in a class": "import pytest\nclass TestA:\n    @pytest.fixture\n    def f(self): return 4\n    @pytest.fixture(autouse=True)\n    def g(self): self.v = 5\n    def test_x(self, f): assert add(f, self.v) == 9",
    "fixture by another name": "import pytest\n@pytest.fixture(name='h')\ndef make(): return 1\ndef test_x(h): assert h == 1",
    "fixture on a fixture": "import pytest\n@pytest.fixture\ndef a(): return Account(1)\n@pytest.fixture\ndef b(a): return a.put(2)\ndef test_x(a, b): assert (a.balance, b) == (3, 3)",
    "asynchronous fixture": "import pytest\n@pytest.fixture\nasync def f():\n    yield 1\n@pytest.mark.asyncio\nasync def test_x(f): assert f == 1",
    "request": "import pytest\ndone = []\n@pytest.fixture\ndef f(request):\n    request.addfinalizer(lambda: done.append(request.node.name))\n    return 1\ndef test_x(request): assert request.getfixturevalue('f') == 1\ndef test_y(): assert done == ['test_x']",
    "usefixtures": "import pytest\nx = []\n@pytest.fixture\ndef f(): x.append(1)\n@pytest.mark.usefixtures('f')\ndef test_x(): assert x == [1]",
    "parametrize": "import pytest\n@pytest.mark.parametrize('a, b, c', [(1, 2, 3), pytest.param(2, 2, 4, id='x')])\ndef test_x(a, b, c): assert add(a, b) == c",
    "parametrize twice, by keyword": "import pytest\nseen = []\n@pytest.mark.parametrize(argnames='a', argvalues=[1, 2], ids=str)\n@pytest.mark.parametrize('b', [10, 20])\ndef test_x(a, b): seen.append(add(a, b))\ndef test_y(): assert sorted(seen) == [11, 12, 21, 22]",
    "parametrize a class": "import pytest\n@pytest.mark.parametrize('a, c', [(1, 2), (2, 3)])\nclass TestX:\n    def test_x(self, a, c): assert add(a, 1) == c",
    "parametrize a fixture": "import pytest\n@pytest.fixture\ndef acc(request): return Account(request.param)\n@pytest.mark.parametrize('acc, c', [(1, 2), (2, 3)], indirect=['acc'])\ndef test_x(acc, c): assert acc.put(1) == c",
    "marks of a module": "import pytest\npytestmark = pytest.mark.parametrize('a', [1, 2])\n@pytest.mark.slow\ndef test_x(a): assert add(a, 1) == a + 1",
    "raises": "import pytest\ndef test_x():\n    with pytest.raises(ValueError, match='neg') as e: Account().put(-1)\n    assert e.match('neg') and e.type is Negative and (e.typename, str(e.value)) == ('Negative', 'negative')",
    "raises of a call": "import pytest\ndef test_x(): assert str(pytest.raises((TypeError, ValueError), Account().put, -1).value) == 'negative'",
    "approx": "import pytest\ndef test_x():\n    assert [add(.1, .2)] == pytest.approx([.3]) and {'a': add(.1, .2)} == pytest.approx({'a': .3})\n    assert add(1, 1) != pytest.approx(3)\n    assert 5.0 != pytest.approx(float('inf'))\n    assert add(.1, .2) == pytest.approx(.3, rel=1e-3)",
    "tmp_path": "def test_x(tmp_path):\n    (tmp_path / 'f').write_text('hi')\n    assert load(tmp_path / 'f') + load(str(tmp_path / 'f')) == 'hihi'",
    "tmp_path_factory": "def test_x(tmp_path_factory):\n    p = tmp_path_factory.mktemp('d') / 'f'\n    save(p, 'x')\n    assert p.read_text() == 'x'",
    "capsys": "def test_x(capsys):\n    say()\n    out, err = capsys.readouterr()\n    say()\n    assert err == capsys.readouterr().err == 'bad\\n'\ndef test_y(capfd):\n    say()\n    assert capfd.readouterr().out == 'hello\\n'",
    "monkeypatch the environment": "import os\ndef test_x(monkeypatch):\n    monkeypatch.setenv('NAD_X', '1')\n    assert env() == '1'\n    monkeypatch.delenv('NAD_X')\n    assert env() is None\n    monkeypatch.setitem(os.environ, 'NAD_X', '2')\ndef test_y(): assert (env() or 'unset') == 'unset'",
    "monkeypatch the program": "import candidate\ndef test_x(monkeypatch):\n    monkeypatch.setattr(candidate, 'LIMIT', 9)\n    assert limit() == 9\ndef test_y(): assert limit() == 3",
    "monkeypatch input and streams": "import io\ndef test_x(monkeypatch):\n    monkeypatch.setattr('builtins.input', lambda prompt: 'yes')\n    assert ask() == 'yes'\ndef test_y(monkeypatch):\n    monkeypatch.setattr('sys.stdin', io.StringIO('no\\n'))\n    assert ask() == 'no'",
    "monkeypatch the library": "import random, time\ndef test_x(monkeypatch):\n    monkeypatch.setattr(random, 'randint', lambda a, b: 4)\n    with monkeypatch.context() as m:\n        m.setattr(time, 'time', lambda: 4.5)\n        assert now() == 4.5\n    assert now() > 5\n    assert roll() == 4",
    "monkeypatch arguments and the folder": "import sys\ndef test_x(monkeypatch, capsys, tmp_path):\n    monkeypatch.setattr(sys, 'argv', ['x', 'a'])\n    monkeypatch.chdir(tmp_path)\n    (tmp_path / 'q').write_text('1')\n    main()\n    assert (capsys.readouterr().out, load('q')) == (\"['a']\\n\", '1')",
    "mock as an argument": "from unittest.mock import Mock\ndef test_x():\n    m = Mock(return_value={'k': 5})\n    assert fetch(m) == 5\n    m.assert_called_once_with('u')",
    "mock.patch": "from unittest import mock\n@mock.patch('random.randint', return_value=4)\ndef test_x(randint): assert roll() == randint.return_value\ndef test_y():\n    with mock.patch('random.randint', return_value=4) as m, mock.patch('candidate.LIMIT', 8), mock.patch.dict('os.environ', {'NAD_X': 'q'}):\n        assert (roll(), limit(), env()) == (4, 8, 'q')\n        m.assert_called_once_with(1, 6)\n    assert (limit(), env()) == (3, None)",
    "warnings": "import pytest\ndef test_x(recwarn):\n    with pytest.warns(DeprecationWarning, match='out'): old()\n    with pytest.deprecated_call(): old()\n    old()\n    assert [str(w.message) for w in recwarn] == ['outdated']",
    "xfail": "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_x(): assert add(1, 1) > 3\n@pytest.mark.skipif(True, reason='x')\ndef test_z(): assert False\ndef test_w():\n    pytest.skip('no')\n    assert False\ndef test_y(): assert add(1, 1) == 2",
    "set-up functions": "x = []\ndef setup_module(): x.append(1)\ndef setup_function(f): x.append(2)\ndef teardown_function(): x.append(3)\ndef test_x(): assert x == [1, 2]\ndef test_y(): assert x == [1, 2, 3, 2]",
    "set-up of a class": "class TestX:\n    @classmethod\n    def setup_class(cls): cls.k = 1\n    def setup_method(self, method): self.a = Account(1)\n    def test_x(self): assert (self.a.put(1), self.k) == (2, 1)",
    "class in a class": "class TestA:\n    class TestB:\n        def test_x(self): assert add(1, 1) == 2",
    "unittest": "import unittest\ndef setUpModule(): global k; k = 1\nclass T(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls): cls.k = k\n    def setUp(self): self.a = Account(self.k)\n    def test_x(self):\n        self.assertEqual(self.a.put(1), 2)\n        self.assertAlmostEqual(add(.1, .2), .3)\n        self.assertIsInstance(self.a, Account)\n        with self.assertRaisesRegex(Negative, 'neg') as c: self.a.put(-1)\n        for i in range(2):\n            with self.subTest(i=i): self.assertTrue(add(i, 1) == i + 1)\n    @unittest.skip('x')\n    def test_s(self): self.fail()\nif __name__ == '__main__': unittest.main()".replace("if __name__ == '__main__'", "if __name__ in ('__main__',)"),
    "unittest, asynchronous": "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n    async def test_x(self): self.assertTrue(add(1, 1) == 2)",
    "importing the program": "from main import add as plus\nfrom solution import Account as A\ndef test_x(): assert plus(1, 1) == A(1).put(1) == 2",
    "conditions without assert": "if not add(1, 1) == 2: raise ValueError(add(1, 1))",
}  # fmt: skip

UNSUPPORTED = {
    "import nothing_like_this\ndef test_x(): assert add(1, 1) == 2": "import 'nothing_like_this', which is not in the sandbox",
    "import pytest\nx = pytest.importorskip('nothing_like_this')": "need the module 'nothing_like_this'",
    "def test_x(unknown): pass": "fixture 'unknown'",
    "import pytest\ndef test_x(): pytest.register_assert_rewrite('x')": "pytest.register_assert_rewrite",
    "import pytest\npytest.skip('not here', allow_module_level=True)": "leave themselves out",
    "class Nothing: pass": "check nothing",
    "import pytest\n@pytest.mark.skip\ndef test_x(): assert add(1, 1) == 2": "check nothing",
}


@pytest.fixture(scope="module")
def check():
    with BubblewrapSandbox(limits=Limits(timeout=20)) as sandbox:
        yield lambda tests: CodeVerifier(sandbox, tests=tests).verify(f"```python\n{PROGRAM}\n```")


@pytest.mark.parametrize("style", STYLES)
def test_a_style_of_tests_passes_and_fails_as_it_should(check, style):
    report = check(STYLES[style])
    assert report.passed, report.feedback
    before, after = STYLES[style].rsplit("==", 1)
    wrong = check(f"{before}!={after}")
    assert not wrong.passed
    assert wrong.failure.check == "tests"


@pytest.mark.parametrize("tests", UNSUPPORTED)
def test_no_program_is_blamed_for_tests_that_cannot_be_run_here(check, tests):
    with pytest.raises(UnsupportedTestsError, match=UNSUPPORTED[tests]):
        check(tests)


def test_one_that_is_expected_to_fail_strictly_must(check):
    tests = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_x(): assert add(1, 1) == 2"
    assert "expected to fail" in check(tests).feedback


def test_a_module_that_the_program_lacks_is_its_own_failure(check):
    assert not check("from solution import subtract\nassert subtract(1, 1) == 0").passed


@pytest.mark.parametrize(
    "tests",
    ["def check(candidate):\n    assert candidate(1) == 2", "METADATA = {}\n\ndef check(candidate):\n    assert True"],
)
def test_a_check_that_nothing_calls_is_refused(tests):
    with pytest.raises(ValueError, match="name the entry_point"):
        CodeVerifier(None, tests=tests)
    CodeVerifier(None, tests=tests, entry_point="add")
    CodeVerifier(None, tests=tests + "\ncheck(add)")
