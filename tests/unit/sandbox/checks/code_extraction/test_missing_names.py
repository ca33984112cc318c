"""What is put in front of a program: the prompt's code, and usual imports when and only when a name is missing."""

import pytest
from nad_sandbox.checks.code_extraction import extract_code
from nad_sandbox.checks.code_extraction.missing_names import with_missing_names


def loaded(code, prompt=""):
    scope = {}
    exec(compile(with_missing_names(code, prompt), "candidate.py", "exec", dont_inherit=True), scope)
    return scope


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("def f(xs: List[int]) -> Any:\n    return xs\n", {"from typing import List", "from typing import Any"}),
        ("def f(x):\n    return math.sqrt(x)\n", {"import math"}),
        ("def f(x):\n    return sqrt(x) + inf\n", {"from math import inf", "from math import sqrt"}),
        ("d = defaultdict(int)\nq = collections\n", {"import collections", "from collections import defaultdict"}),
        ("heapq.heappush([], 1)\nheappop([1])\n", {"from heapq import heappop", "import heapq"}),
        ("bisect.bisect_left([], 1)\n", {"import bisect"}),
        ("bisect([], 1)\n", {"from bisect import bisect"}),
        ("@cache\ndef f(x):\n    accumulate(x)\n", {"from itertools import accumulate", "from functools import cache"}),
        ("def f(s):\n    return re.sub('a', 'b', s)\n", {"import re"}),
        ("class Solution:\n    def f(self):\n        return Counter('a')\n", {"from collections import Counter"}),
        ("y = 1\nxs = [reduce(max, x) for x in [[y]]]\n", {"from functools import reduce"}),
    ],
)
def test_what_is_missing_is_imported_from_its_module(code, imported):
    made = with_missing_names(code, "")
    assert made.endswith(code)
    assert set(made.removesuffix(code).split("\n")[:-1]) == imported


@pytest.mark.parametrize(
    "code",
    [
        "class List:\n    pass\n\ndef f(x: List):\n    return x\n",
        "from typing import List\n\ndef f(x: List):\n    return x\n",
        "import math\nx = math.pi\n",
        "import collections as math\nx = math\n",
        "from math import *\nx = sqrt(4)\n",
        "def f(deque, count=1, *product, **chain):\n    return deque, count, product, chain\n",
        "def f(xs):\n    for count, product in xs:\n        yield count, product\n",
        "def f():\n    global counter\n    return counter\n",
        "try:\n    pass\nexcept ValueError as inf:\n    print(inf)\n",
        "with open('x') as chain:\n    chain.read()\n",
        "x = [count for count in range(3)]\n",
        "if (count := 3):\n    print(count)\n",
        "match [1, 2]:\n    case [count, *product]:\n        print(count, product)\n",
        "match {}:\n    case {**chain}:\n        print(chain)\n",
        "import os.path\nx = os.path.sep, __file__, __name__, ValueError\n",
        "x = 'math.sqrt'  # math.sqrt\n",
        "x = 1\ny = x.count.sqrt\n",
        "def f(:\n",
        "return math.pi\n",
    ],
)
def test_a_program_that_lacks_nothing_is_given_back(code):
    assert with_missing_names(code, "") == code


def test_an_unknown_name_stays_unknown_and_one_in_annotations_alone_is_not_evaluated():
    unknown = "def f(x):\n    return frobnicate(x)\n"
    assert with_missing_names(unknown, "") == unknown
    scope = loaded("class Solution:\n    def f(self, head: Optional[ListNode]) -> ListNode:\n        return head\n")
    assert scope["Solution"]().f(3) == 3


@pytest.mark.parametrize(
    "head",
    [
        "from __future__ import annotations\n",
        '"""Doc."""\n\nfrom __future__ import annotations\nimport os\n',
        "from __future__ import (\n    annotations,\n)\n",
        "# comment\nfrom __future__ import annotations; import os\n",
        "",
    ],
)
def test_imports_of_the_prompt_go_behind_those_of_the_future(head):
    prompt = "import math\nfrom typing import List\n\n\ndef up(x: List[float]):\n    '''Round up.'''\n"
    scope = loaded(f"{head}def up(x: List[float]):\n    return [math.ceil(v) for v in x]\n", prompt)
    assert scope["up"]([1.5]) == [2]


def test_an_import_of_the_future_may_come_from_the_prompt_or_a_later_block():
    prompt = "from __future__ import annotations\nimport math\n\n\ndef up(x):\n    '''Round up.'''\n"
    code = extract_code("```python\ndef up(x: Unknown):\n    return math.ceil(x)\n```", prompt)
    assert code.startswith("from __future__ import annotations\n")
    later = "from __future__ import annotations\ndef up(x):\n    return math.ceil(x + half)\n"
    blocks = f"```python\nimport math\nhalf = 0.5\n```\n```python\n{later}```"
    assert loaded(extract_code(blocks))["up"](1.1) == 2


def test_definitions_of_the_prompt_are_used_and_an_answers_own_come_first():
    prompt = "def half(x):\n    return x / 2\n\n\ndef quarter(x):\n    '''A quarter.'''\n"
    assert loaded("def quarter(x):\n    return half(half(x))\n", prompt)["quarter"](8) == 2
    own = "def half(x):\n    return x\n\ndef quarter(x):\n    return half(x)\n"
    assert loaded(own, prompt)["quarter"](8) == 8
