"""What the terminal shows of a selection."""

from io import StringIO

import pytest
from rich.console import Console

from nad_agents.cli.display import candidate_table, reason
from nad_agents.types import Candidate, Selection, Timings, Usage


def make_selection(*, selector="knn", details=None, verdicts=(None, None, None), verified=None):
    candidates = tuple(
        Candidate(
            index=i,
            rank=(1, 0, 2)[i],
            score=2.0 - i / 2,
            text=f"```python\ndef is_prime_{i}(n): return True\n```",
            tokens=145,
            activated_neurons=11718,
            agreement=0.6444,
            mean_logprob=-0.37,
            finish_reason="stop",
            verdict=verdict,
        )
        for i, verdict in enumerate(verdicts)
    )
    return Selection(
        text="x",
        winner=1,
        ranking=(1, 0, 2),
        candidates=candidates,
        selector=selector,
        seed=1,
        usage=Usage(prompt_tokens=1, generated_tokens=3, winner_tokens=1, saved_tokens=0),
        timings=Timings(queued=0, prefill=1, decode=1, select=1, verify=0),
        verified=verified,
        model="m",
        details=details or {},
    )


GROUPS = {
    "groups": [1, 0, 0],
    "inputs": ["f(1)", "f(2)"],
    "behaviours": [{"size": 2, "outcomes": ["2", "4"]}, {"size": 1, "outcomes": ["3", "4"]}],
}


def shown(selection, width):
    out = StringIO()
    Console(file=out, width=width).print(candidate_table(selection, width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("verdicts", [(None, None, None), ({"passed": False}, {"passed": True}, {"passed": False})])
@pytest.mark.parametrize("selector", ["knn", "behaviour"])
def test_no_column_is_cut_in_a_narrow_terminal(width, verdicts, selector):
    lines = shown(make_selection(selector=selector, details=GROUPS, verdicts=verdicts), width)
    head, first = next(line for line in lines if "rank" in line and "#" in line), lines[4]
    assert "…" not in head
    assert head.split()[:3] == ["rank", "#", "score"]
    assert "begins with" in head
    assert first.split()[:3] == ["1", "1", "1.5000"]
    assert "```python def" in first
    assert max(map(len, lines)) <= width
    assert ("does" in head) is (selector == "behaviour")
    assert ("checks" in head) is (verdicts[0] is not None)


@pytest.mark.parametrize("width", [16, 24, 32, 40, 50, 60])
@pytest.mark.parametrize("verdicts", [(None, None, None), ({"passed": False}, {"passed": True}, {"passed": False})])
@pytest.mark.parametrize("selector", ["knn", "behaviour"])
def test_the_narrowest_terminal_shows_each_candidates_number(width, verdicts, selector):
    lines = shown(make_selection(selector=selector, details=GROUPS, verdicts=verdicts), width)
    start = next(i for i, line in enumerate(lines) if "#" in line.split())
    place = lines[start].split().index("#")
    rows = [line.split() for line in lines[start + 1 :] if "`" in line]
    assert [row[place] for row in rows] == ["1", "0", "2"]
    assert max(map(len, lines)) <= width
    if width >= 40:
        assert "begins with" in lines[start]
        assert ("checks" in lines[start]) is (verdicts[0] is not None)


def test_groups_are_letters_and_the_reason_tells_what_the_winner_does():
    selection = make_selection(selector="behaviour", details=GROUPS)
    does = [line[line.index("stop") :].split()[1] for line in shown(selection, 100)[4:7]]
    assert does == ["A", "B", "A"]
    # the score, 1.5 here, is the mean share of the others
    assert reason(selection).startswith(
        "Candidate #1 was chosen by behaviour; the others do the same on 150% of 2 inputs on average, 2 of 3 on all of "
        "them, such as f(1) gives 2; it agrees 0.644"
    )
    tested = GROUPS | {"assertions": ["assert f(1) == 2", "assert f(0) == 1"], "passed": [0, 1, 2]}
    assert reason(make_selection(selector="behaviour", details=tested)).startswith(
        "Candidate #1 was chosen by behaviour; it passes 1 of 2 assertions that the model wrote, and 2 of 3 do the "
        "same on all of 2 inputs, such as f(1) gives 2; it agrees"
    )
    assert "2 of 3 do the same on all of 2 inputs, such as" in reason(
        make_selection(selector="behaviour_groups", details=GROUPS)
    )
    assert reason(selection.model_copy(update={"confidence": 0.617})).endswith("about 62% likely to be right.")


def test_what_cannot_be_observed_is_said_instead_of_an_empty_input():
    note = "nothing that the programs do can be observed"
    details = {"inputs": [], "groups": [], "behaviours": [], "note": note}
    assert note in reason(make_selection(selector="behaviour", details=details))
    lacking = {**GROUPS, "missing_modules": {"attr": 1}}
    told = reason(make_selection(selector="behaviour", details=lacking))
    assert "such as f(1) gives 2; 1 could not run, since the sandbox lacks attr" in told
    one = {**GROUPS, "inputs": ["a run without input"]}
    assert "do the same: a run without input gives" in reason(make_selection(selector="behaviour", details=one))
