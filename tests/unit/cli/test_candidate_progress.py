"""What a terminal shows while candidates grow, and that nothing of it is left in the end."""

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from nad_agents import NADConfig, SamplingConfig
from nad_agents.cli.candidate_progress import CandidateProgress, decode_with_progress
from nad_agents.events import CandidateGrowth, Compared, Progress, Pruned, Ranking, Verified, WinnerChosen
from nad_agents.testing import AcceptingVerifier, ScriptedAnswer, ScriptedDecoder

ANSWERS = ScriptedAnswer(["one apple", "two apples", "three"], ranking=[2, 0, 1])
GROWTH = (
    CandidateGrowth(0, "the first words, and now\nthe last of them", 8, "running"),
    CandidateGrowth(1, "short", 5, "stop"),
    CandidateGrowth(2, "cut off", 40, "length"),
)
SIMILARITY = ((1.0, 0.5, 0.3), (0.5, 1.0, 0.1), (0.3, 0.1, 1.0))


def terminal(width=80, height=24, **options):
    return Console(force_terminal=True, width=width, height=height, file=StringIO(), color_system="standard", **options)


def lines(progress, width=80, height=24):
    console = Console(width=width, height=height, file=StringIO())
    console.print(progress)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def grown(n=3, growth=GROWTH):
    progress = CandidateProgress(SamplingConfig(n=n, max_new_tokens=40))
    live = tuple(one.candidate for one in growth if one.finish_reason == "running")
    progress.update(Progress(8, live, sum(one.tokens for one in growth), growth))
    return progress


def test_every_candidate_has_a_line_with_its_tokens_and_its_last_words():
    progress = CandidateProgress(SamplingConfig(n=3, max_new_tokens=40))
    head, *rows = lines(progress)
    assert "reading the prompt, 0:00" in head
    assert [row.split() for row in rows] == [["#0", "0"], ["#1", "0"], ["#2", "0"]]
    progress = grown()
    head, *rows = lines(progress, width=60)
    assert "1 of 3 candidates running, 53 tokens" in head
    assert [row.split()[0] for row in rows] == ["#0", "#1", "#2"]
    assert rows[0].endswith("… words, and now the last of them")
    assert "  8 " in rows[0]
    assert rows[1].split()[-3:] == ["5", "ended", "short"]
    assert rows[2].split()[-4:] == ["40", "limit", "cut", "off"]
    bars = [row.count("━") for row in lines(progress)[1:]]
    assert bars[0] < bars[2] == 10
    progress.update(Progress(9, (0,), 54, (CandidateGrowth(0, " all", 9, "running"),)))
    assert lines(progress)[1].endswith("the last of them all")


def test_what_happens_to_the_candidates_is_shown_as_it_comes():
    progress = grown()
    progress.update(Compared(8, SIMILARITY, (1, 2, 3)))
    means = ["0.40", "0.30", "0.20"]
    assert all(mean in row for mean, row in zip(means, lines(progress, 100)[1:], strict=True))
    assert not any(mean in row for mean in means for row in lines(progress, 60))
    progress.update(Pruned((0,), 8, (1, 2, 0)))
    assert "pruned" in lines(progress)[1]
    progress.update(Progress(40, (), 85, ()))
    assert "comparing 3 candidates, 85 tokens" in lines(progress)[0]
    progress.update(Ranking((1, 2, 0), (1.0, 3.0, 2.0), to_check=(1, 2)))
    head, *rows = lines(progress)
    assert "checking down the ranking" in head
    assert [row.split()[0] for row in rows] == ["#1", "#2", "#0"]
    assert ["checking" in row for row in rows] == [True, True, False]
    progress.update(Verified(1, {"passed": False}))
    progress.update(Verified(2, {"passed": True}))
    progress.update(WinnerChosen(2))
    rows = lines(progress)[1:]
    assert "failed" in rows[0]
    assert "passed" in rows[1]


def test_similarities_of_a_part_of_the_candidates_are_left_out():
    progress = grown(n=5)
    before = lines(progress, 120)
    progress.update(Compared(8, SIMILARITY, (1, 2, 3)))
    assert lines(progress, 120)[1:] == before[1:]


@pytest.mark.parametrize("width", [8, 16, 24, 36, 40, 56, 72, 80, 100, 200])
@pytest.mark.parametrize("text", ["words of an answer " * 20, "日本語の答え" * 40])
def test_no_line_is_wider_than_the_terminal(width, text):
    growth = tuple(CandidateGrowth(i, text, 12, "running") for i in range(12))
    progress = grown(12, growth)
    progress.update(Compared(8, tuple((0.5,) * 12 for _ in range(12)), (1,) * 12))
    shown = lines(progress, width)
    assert len(shown) == 13
    assert max(map(cell_len, shown)) <= width
    assert [row.split()[0] for row in shown[1:]] == [f"#{i}" for i in range(12)]


def test_a_low_terminal_shows_those_that_run_and_how_many_it_leaves_out():
    growth = tuple(CandidateGrowth(i, "x", 1, "running" if i % 2 else "stop") for i in range(12))
    progress = grown(64, growth)
    shown = lines(progress, height=12)
    assert len(shown) == 11
    assert [row.split()[0] for row in shown[1:8]] == ["#1", "#3", "#5", "#7", "#9", "#11", "#0"]
    assert shown[-1] == "and 55 more"
    progress.update(Ranking(tuple(range(63, -1, -1)), (0.0,) * 64))
    assert lines(progress, height=12)[1].startswith("#63")


def test_what_a_model_writes_cannot_move_the_cursor():
    progress = grown(1, (CandidateGrowth(0, "a\x1b[2Jb\r\x07c", 3, "running"),))
    assert lines(progress)[1].endswith("a [2Jb c")


def test_a_terminal_is_left_as_it_was_found():
    console = terminal()
    verifier = AcceptingVerifier(lambda answer: "one" in answer)
    decoder = ScriptedDecoder(ANSWERS, sampling=SamplingConfig(n=3, max_new_tokens=40))
    selection = decode_with_progress(
        console, decoder, "hello", sampling=decoder.sampling, config=NADConfig(), verifier=verifier
    )
    assert (selection.winner, selection.verified) == (0, True)
    shown = console.file.getvalue()
    assert "one apple" in shown
    assert "reading the prompt" in shown
    # each line of the display is cleared, and the cursor is shown again
    cleared = shown[shown.rindex("\x1b[?25h") :]
    assert cleared.count("\x1b[2K") >= 4
    assert "apple" not in cleared


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")])
def test_an_interruption_leaves_a_clean_screen(error):
    class Interrupted:
        def stream(self, *_, **__):
            yield Progress(8, (0,), 53, GROWTH)
            raise error

    console = terminal()
    with pytest.raises(type(error)):
        decode_with_progress(console, Interrupted(), "hello", sampling=SamplingConfig(n=3), config=NADConfig())
    shown = console.file.getvalue()
    assert "the last of them" in shown
    assert shown[shown.rindex("\x1b[?25h") :].count("\x1b[2K") >= 4


@pytest.mark.parametrize(
    "console",
    [
        Console(file=StringIO(), width=80),
        Console(file=StringIO(), width=80, force_terminal=True, quiet=True),
        Console(file=StringIO(), width=80, force_terminal=True, _environ={"TERM": "dumb"}),
    ],
    ids=["a file", "quiet", "dumb"],
)
def test_elsewhere_nothing_moves(console):
    decoder = ScriptedDecoder(ANSWERS)
    selection = decode_with_progress(console, decoder, "hello", sampling=decoder.sampling, config=NADConfig())
    assert selection.winner == 2
    assert console.file.getvalue().strip() == ""


def test_without_colors_there_are_none_and_the_bars_still_tell_lengths():
    console = terminal(no_color=True)
    console.print(grown())
    shown = console.file.getvalue()
    assert "\x1b[3" not in shown
    bars = [line.count("━") for line in shown.splitlines()[1:]]
    assert bars[0] < bars[2]
