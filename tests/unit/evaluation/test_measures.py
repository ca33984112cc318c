"""What is measured of a problem, against the selectors themselves and figures worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from nad_agents.evaluation.measures import measure_problem, measure_run, shared_start
from nad_agents.evaluation.plan import Plan
from nad_agents.evaluation.variants import SWEPT, Variant
from nad_agents.evaluation.verdicts import ProblemVerdicts, append_verdicts
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import NeuronLayout, Rollout, RolloutGroup
from nad_agents.runs import ProblemRecord, RecordedRun, RunError, RunWriter
from nad_agents.selectors import get_selector, rank
from tests.unit.evaluation.synthetic_runs import LAYOUT, problem, write_run


def rollout(index, tokens, neurons, *, logprob=-1.0, text=None):
    n = len(tokens)
    return Rollout(
        index=index,
        token_ids=np.array(tokens, dtype=np.int64),
        text=f"candidate {index}" if text is None else text,
        neurons=np.array(neurons, dtype=np.int32).reshape(n, -1) if n else np.zeros((0, 2), dtype=np.int32),
        logprobs=np.broadcast_to(np.float32(logprob), n).copy(),
        entropies=np.arange(n, dtype=np.float32),
        self_certainties=np.ones(n, dtype=np.float32),
        confidences=np.ones(n, dtype=np.float32),
        finish_reason="stop",
    )


FOLLOWED_NAMES = ("knn", "medoid", "mean_logprob", "nad_fusion")
ASKING = {"codet", "b4", "self_verify", "p_true"}
FOLLOWED_VARIANTS = tuple(Variant(name, name) for name in FOLLOWED_NAMES)


def group_of(*rollouts):
    return RolloutGroup(list(rollouts), NeuronLayout(n_layers=2, d_ff=50), "a prompt")


def verdicts_for(group, *, correct=None, **more):
    correct = (False,) * len(group) if correct is None else tuple(correct)
    values = {"examples": None, "reasons": ("",) * len(group), "answers": None, "scorer": "made"} | more
    return ProblemVerdicts("made", correct, **values)


@pytest.mark.parametrize("label", ["knn", "dbscan", "nex", "mean_logprob", "knn, common length"])
def test_rankings_and_scores_are_those_of_the_selector(run, plan, measures, label):
    place, variant = next((i, v) for i, v in enumerate(plan.standard) if v.label == label)
    for name, measured in zip(run.problems, measures, strict=True):
        group = run.group(name)
        given = get_selector(variant.selector, comparison=variant.comparison).score(group)
        np.testing.assert_array_equal(measured.scores[place], given.values)
        assert measured.rankings[place].tolist() == rank(given, group)


def test_every_selector_that_can_be_compared_is(plan):
    from nad_agents.selectors import available_selectors

    # random enters as its expectation, auto is one of the others, majority needs answers that
    # compare, and the rest ask a model, which no run has
    known = {name for name in available_selectors() if not name.startswith("test")}
    assert known - {v.selector for v in plan.standard} == {"auto", "random", "majority", *ASKING}


def test_positions_are_early_stopping(run, plan, measures):
    group = run.group(run.problems[0])
    comparison = ComparisonConfig(chunk_size=32, compare_chunks=1)
    expected = rank(get_selector("knn", comparison=comparison).score(group), group)
    assert measures[0].sweeps["position"][32][SWEPT.index("knn")].tolist() == expected
    # with nothing left out it is the selector itself
    knn = [v.label for v in plan.standard].index("knn")
    assert measures[0].sweeps["position"][-1][SWEPT.index("knn")].tolist() == measures[0].rankings[knn].tolist()


def test_the_corners_of_the_weights_are_the_components(run, plan, measures):
    labels = [v.label for v in plan.standard]
    for measured in measures:
        corners = measured.sweeps["weights"]
        for setting, label in (("4:0:0", "medoid"), ("0:4:0", "min_act"), ("0:0:4", "mean_logprob")):
            pick = corners[setting][0, 0]
            scores = measured.scores[labels.index(label)]
            assert scores[pick] == scores.max()


def test_subsets_of_all_but_one_candidate():
    # right candidates share neurons 0 and 1; the wrong ones have nothing in common
    neurons = [[0, 1], [0, 1], [0, 1], [9, 10], [20, 21]]
    group = group_of(*(rollout(i, [i, i], [ids, ids], logprob=-i) for i, ids in enumerate(neurons)))
    verdicts = verdicts_for(group, correct=[True, True, True, False, False])
    found = measure_problem(group, verdicts, Plan(FOLLOWED_VARIANTS, sizes=(2, 4)))
    by_name = {size: dict(zip(FOLLOWED_NAMES, found.subsets[size], strict=True)) for size in (2, 4)}
    # of four candidates at least two agree; the best log-probability of four is candidate 0's or 1's
    assert by_name[4]["knn"] == by_name[4]["mean_logprob"] == 1.0
    # of the ten pairs only the one of 3 and 4 has no right candidate, and the lower index is likelier
    assert by_name[2]["mean_logprob"] == 0.9


def test_subsets_give_what_the_selector_gives_on_them_alone():
    group, correct = problem(3, n=5)
    found = measure_problem(group, verdicts_for(group, correct=correct), Plan(FOLLOWED_VARIANTS, sizes=(4,)))
    hits = []
    for left_out in range(5):
        members = [i for i in range(5) if i != left_out]
        alone = RolloutGroup([group.rollouts[i] for i in members], group.layout, group.prompt)
        hits.append(correct[members[rank(get_selector("medoid").score(alone), alone)[0]]])
    assert found.subsets[4][FOLLOWED_NAMES.index("medoid")] == pytest.approx(np.mean(hits))


def test_chunk_points_and_growth_are_of_whole_chunks():
    tokens = 70
    neurons = [[i % 40, 41] for i in range(tokens)]
    group = group_of(rollout(0, range(tokens), neurons), rollout(1, range(20), neurons[:20]))
    found = measure_problem(group, verdicts_for(group), Plan(standard=()))
    # 32 + 1 neurons, then 8 + 24 + 1 (32 to 39, 0 to 23); entropies 0..31 and 32..63; six tokens are left over
    assert found.chunk_points.tolist() == [[33, 15.5], [33, 47.5]]
    assert [g.tolist() for g in found.growth] == [[33, 41], []]
    assert found.counts.tolist() == [41, 21]


def test_empty_candidates_are_measured():
    group = group_of(rollout(0, [], []), rollout(1, [1, 2], [[1, 2], [3, 4]]), rollout(2, [], []))
    standard = tuple(Variant(name, name) for name in (*SWEPT, "behaviour"))
    found = measure_problem(group, verdicts_for(group, outcomes=((-1,), (0,), (-1,))), Plan(standard))
    assert found.rankings[:, 0].tolist() == [1] * len(standard)
    assert found.tokens.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2], [1, 2, 3]], 2), ([[5], [6]], 0), ([[1, 2]], 0), ([[1, 2], [], [1, 3]], 1)],
)
def test_the_shared_start(sequences, expected):
    group = group_of(*(rollout(i, s, [[0, 1]] * len(s)) for i, s in enumerate(sequences)))
    assert shared_start(group) == expected


def test_without_the_shared_start_only_the_rest_is_compared():
    # alike in the first two tokens; after them 0 and 1 agree, and 2 stands alone
    shared = [[30, 31], [32, 33]]
    ends = [[1, 2], [1, 2], [8, 9]]
    group = group_of(*(rollout(i, [7, 7, i], [*shared, end]) for i, end in enumerate(ends)))
    variants = (Variant("knn", "knn"), Variant("skipping", "knn", skip_shared=True))
    found = measure_problem(group, verdicts_for(group), Plan(variants))
    # of 6 neurons, 4 are shared by all: (1 + 4/8) / 2; without them (1 + 0) / 2 and nothing
    assert found.scores[0] == pytest.approx([0.75, 0.75, 0.5])
    assert found.scores[1] == pytest.approx([0.5, 0.5, 0.0])


def test_a_limit_counts_from_the_end_of_the_shared_start():
    shared = [[30, 31], [32, 33]]
    ends = [[[1, 2], [40, 41]], [[1, 2], [42, 43]], [[8, 9], [44, 45]]]
    group = group_of(*(rollout(i, [7, 7, i, i], [*shared, *end]) for i, end in enumerate(ends)))
    one_more = ComparisonConfig(chunk_size=1, compare_chunks=1)
    found = measure_problem(group, verdicts_for(group), Plan((Variant("later", "knn", one_more, skip_shared=True),)))
    assert found.shared == 2
    # one token after the shared two: candidates 0 and 1 are alike in it
    assert found.scores[0] == pytest.approx([0.5, 0.5, 0.0])


def test_a_choice_after_so_many_tokens_knows_of_no_later_one():
    # alike in all that is compared; what comes later would break the tie in favour of the last one
    group = group_of(
        *(rollout(i, [7, 7, i], [[1, 2], [3, 4], [i, i + 8]], logprob=[-1, -1, -9 + 4 * i]) for i in range(3))
    )
    early = ComparisonConfig(chunk_size=2, compare_chunks=1)
    variants = (Variant("early", "knn", early), Variant("whole", "knn"))
    plan = Plan(variants, sweeps={"position": {2: (variants[0],)}})
    found = measure_problem(group, verdicts_for(group), plan)
    assert found.rankings[0].tolist() == [0, 1, 2]
    assert found.sweeps["position"][2].tolist() == [[0, 1, 2]]
    assert found.rankings[1].tolist() == [2, 1, 0]


def test_candidates_that_are_all_alike_keep_a_token():
    group = group_of(*(rollout(i, [7, 7], [[1, 2], [3, 4]]) for i in range(3)))
    found = measure_problem(group, verdicts_for(group), Plan((Variant("skipping", "knn", skip_shared=True),)))
    assert found.scores[0].tolist() == [1, 1, 1]


def test_majority_counts_answers_as_they_were_scored():
    texts = ["so \\boxed{1/2}", "\\boxed{0.5}", "\\boxed{3}", "\\boxed{3.0} ", "I think 1/2... \\boxed{\\frac12}", "no"]
    group = group_of(*(rollout(i, [i], [[i, i + 1]], text=text) for i, text in enumerate(texts)))
    answers = ("1/2", "0.5", "3", "3", "\\frac12", None)
    found = measure_problem(group, verdicts_for(group, answers=answers), Plan((Variant("majority", "majority"),)))
    assert found.scores[0].tolist() == [3, 3, 2, 2, 3, 0]


def test_behaviour_is_what_scoring_observed_and_ties_go_to_agreement():
    neurons = [[1, 2], [8, 9], [8, 9], [30, 31]]
    group = group_of(*(rollout(i, [i], [ids]) for i, ids in enumerate(neurons)))
    plan = Plan((Variant("behaviour", "behaviour"),))
    found = measure_problem(group, verdicts_for(group, outcomes=((0, 0), (0, 0), (-1, -1), (1, 0))), plan)
    assert found.scores[0] == pytest.approx([3 / 6, 3 / 6, 0, 2 / 6])
    assert found.rankings[0].tolist() == [1, 0, 3, 2]
    # not observed: agreement decides
    assert measure_problem(group, verdicts_for(group), plan).rankings[0, 0] in (1, 2)


def test_a_checked_ranking_has_those_that_satisfy_the_examples_first():
    group = group_of(*(rollout(i, [i], [[i, i + 1]], logprob=-i) for i in range(4)))
    plan = Plan((Variant("checked", "mean_logprob", checked=True),))
    found = measure_problem(group, verdicts_for(group, examples=(False, True, False, True)), plan)
    assert found.rankings[0].tolist() == [1, 3, 0, 2]
    assert np.argsort(-found.scores[0]).tolist() == [1, 3, 0, 2]
    assert measure_problem(group, verdicts_for(group), plan).rankings[0].tolist() == [0, 1, 2, 3]


def test_seconds_are_those_of_generating(measures):
    assert {m.seconds for m in measures} == {1.5}


def test_what_cannot_be_measured_says_what_to_do(tmp_path, plan):
    folder = write_run(tmp_path / "run", problems=2, n=3)
    run = RecordedRun(folder)
    (folder / "verdicts.jsonl").unlink()
    with pytest.raises(RunError, match=r"is not scored yet; score it with `nad report"):
        measure_run(run, plan)
    append_verdicts(folder, ProblemVerdicts("made/0", (True,), None, ("",), None, "made"))
    with pytest.raises(RunError, match="'made/0' has 3 candidates and 1 verdicts"):
        measure_run(run, plan)


def test_a_run_without_neurons_is_refused(tmp_path, run):
    group, _ = problem(0, n=3)
    bare = [replace(r, neurons=np.zeros((len(r), 0), dtype=np.int32)) for r in group.rollouts]
    manifest = run.manifest.model_copy(update={"problems": ("made/0",)})
    with RunWriter(tmp_path / "run", manifest) as writer:
        with pytest.raises(RunError, match="no complete problem yet"):
            Plan.for_run(RecordedRun(tmp_path / "run"))
        writer.append(ProblemRecord("made/0", RolloutGroup(bare, LAYOUT, "prompt")))
    with pytest.raises(RunError, match="recorded without neurons"):
        Plan.for_run(RecordedRun(tmp_path / "run"))
