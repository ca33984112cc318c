"""The command line on a tiny model folder: what it prints, and how it fails."""

import io
import json
import re
import sys
import tempfile
import tomllib

import pytest
from packaging.requirements import Requirement

from nad_agents.cli import doctor
from nad_agents.cli.commands import exit_code
from nad_agents.cli.findings import Finding
from nad_agents.exceptions import (
    ConfigurationError,
    GenerationError,
    MissingDependencyError,
    ModelLoadError,
    NoCandidatePassedError,
    PromptError,
    UnknownSelectorError,
)
from nad_agents.runs import RunError
from nad_agents.testing import byte_tokenizer
from tests.model_families import FAMILIES
from tests.tiny_models import make_model, save_model
from tests.unit.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny-model")
    save_model(make_model("llama"), path)
    return path


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A model that goes on to the token limit, whatever it draws on this machine."""
    path = tmp_path_factory.mktemp("endless-model")
    model = make_model("llama")
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    model.save_pretrained(path)
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(path)
    return path


def test_ask_shows_the_candidates_why_one_was_chosen_and_the_answer(nad, folder):
    code, out, err = nad("ask", "hello", "-m", folder, "-n", 3, "--max-new-tokens", 12, "--seed", 1)
    assert code == 0
    assert "3 candidates, ranked by nad_fusion" in err
    assert re.search(r"Candidate #\d was chosen by nad_fusion; it agrees \d\.\d+ with the others", err)
    assert re.search(r"\d+ tokens in .* seed 1", err)
    assert out.strip()


def test_json_is_the_whole_selection_and_nothing_else(nad, folder):
    code, out, err = nad("ask", "hello", "-m", folder, "-n", 3, "--max-new-tokens", 12, "--seed", 1, "--json")
    selection = json.loads(out)
    assert (code, err) == (0, "")
    assert sorted(selection["ranking"]) == [0, 1, 2]
    assert selection["text"] == selection["candidates"][selection["winner"]]["text"]
    assert len(selection["similarity_matrix"]) == 3


def test_quiet_prints_the_answer_alone_and_a_seed_repeats_it(nad, folder):
    args = ("ask", "hello", "-m", folder, "-n", 3, "--max-new-tokens", 12, "--seed", 1, "-q")
    first, second = nad(*args), nad(*args)
    assert first == second
    assert first[2] == ""


def test_plain_lines_are_those_that_a_file_gets(nad, folder, monkeypatch):
    args = ("ask", "hello", "-m", folder, "-n", 3, "--max-new-tokens", 12, "--seed", 1)
    _, out, err = nad(*args)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in nad(*args)[2]
    code, plain_out, plain_err = nad(*args, "--plain")
    assert (code, plain_out) == (0, out)
    assert plain_err.splitlines()[:-1] == err.splitlines()[:-1]  # the last one has the times
    assert "\x1b" not in plain_err


def test_one_candidate_needs_no_comparison(nad, folder):
    code, out, _ = nad("ask", "hello", "-m", folder, "-n", 1, "-t", 0, "--max-new-tokens", 5, "--json")
    assert code == 0
    assert json.loads(out)["ranking"] == [0]


def test_losers_may_be_dropped_chunk_by_chunk(nad, endless):
    args = ["ask", "hello", "-m", endless, "-n", 4, "--max-new-tokens", 80, "--seed", 2, "--halve", 2]
    code, out, _ = nad(*args, "--json")
    assert code == 0
    lengths = sorted(candidate["tokens"] for candidate in json.loads(out)["candidates"])
    assert lengths == [32, 32, 64, 80]
    code, _, err = nad(*args, "--early-stop")
    assert (code, "choose one" in err) == (2, True)


def test_candidates_may_come_in_waves(nad, endless):
    args = ["ask", "hello", "-m", endless, "-n", 3, "--max-new-tokens", 8, "--seed", 2, "--dtype", "float32", "--json"]
    whole, waves = nad(*args), nad(*args, "--wave", 2)
    assert (whole[0], waves[0]) == (0, 0)
    texts = [[c["text"] for c in json.loads(out)["candidates"]] for _, out, _ in (whole, waves)]
    assert texts[0] == texts[1]


def test_early_stop_tells_what_it_saved(nad, endless):
    code, _, err = nad("ask", "hello", "-m", endless, "-n", 4, "--max-new-tokens", 80, "--seed", 2, "--early-stop")
    assert code == 0
    assert "about 144 saved" in err
    assert "pruned" in err


def test_the_prompt_may_come_from_standard_input(nad, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello"))
    code, out, _ = nad("ask", "-", "-m", folder, "-n", 2, "--max-new-tokens", 5, "--json")
    assert code == 0
    assert json.loads(out)["usage"]["prompt_tokens"] == len("[user]hello\n[assistant]")


def test_doctor_measures_this_machine(nad, folder, monkeypatch):
    monkeypatch.setattr("nad_agents.cli.speed_check._TOKENS", 4)
    monkeypatch.setattr("nad_agents.cli.speed_check._PROMPT_TOKENS", 16)
    monkeypatch.setattr("nad_agents.cli.speed_check._measure_check", lambda: Finding("check", "missing", "no sandbox"))
    monkeypatch.setattr("nad_agents.cli.doctor._check_sandboxes", lambda: iter(()))
    code, out, err = nad("doctor", "--bench", "-m", folder, "--json")
    found = {finding["name"]: finding["detail"] for finding in json.loads(out)}
    assert (code, err) == (0, "")
    assert re.fullmatch(r"[\d,]+ tokens/s", found["prefill"])
    pattern = r"[\d.]+ tokens/s together, [\d.]+ times the time of one; recording neurons takes [+-][\d.]+%"
    assert re.fullmatch(pattern, found["8 candidates"])
    assert re.fullmatch(r"\d+ ms for 16 candidates \(knn\)", found["selection"])


def test_doctor_shows_each_finding_as_soon_as_it_is_known_and_estimates_the_bench(nad, folder, monkeypatch):
    monkeypatch.setattr("nad_agents.cli.speed_check._TOKENS", 4)
    monkeypatch.setattr("nad_agents.cli.speed_check._PROMPT_TOKENS", 16)
    monkeypatch.setattr("nad_agents.cli.doctor._check_sandboxes", lambda: iter(()))

    def fail():
        raise GenerationError("the last measurement failed")

    monkeypatch.setattr("nad_agents.cli.speed_check._measure_check", fail)
    code, out, err = nad("doctor", "--bench", "-m", folder)
    assert code == 1
    assert re.search(r"measuring takes about \d+ (s|min)", err)
    assert all(re.search(rf"ok +{name}", out) for name in ("torch", "prefill", "16 candidates", "selection"))


@pytest.mark.parametrize(
    ("family", "neurons", "attribution"),
    [
        ("llama", "144 in 3 of 3 layers (3 gated)", "ok"),
        (
            "nemotron_h",
            "168 in 2 of 4 layers (1 plain, 1 experts and dense); the 2 layers without a feed-forward block",
            "ok",
        ),
        ("zamba2", "96 in 2 of 4 layers (2 fused)", "missing"),
    ],
)
def test_doctor_says_which_neurons_a_model_has(nad, tmp_path, monkeypatch, family, neurons, attribution):
    monkeypatch.setattr("nad_agents.cli.doctor._check_sandboxes", lambda: iter(()))
    options = next(known.options for known in FAMILIES if known.architecture == family)
    save_model(make_model(family, **options), tmp_path)
    code, out, _ = nad("doctor", "-m", tmp_path, "--json")
    found = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 0
    assert found["neurons"]["detail"].startswith(neurons)
    assert found["attribution"]["status"] == attribution


def test_doctor_names_a_model_without_neurons(nad, tmp_path, monkeypatch):
    monkeypatch.setattr("nad_agents.cli.doctor._check_sandboxes", lambda: iter(()))
    save_model(make_model("mamba"), tmp_path)
    code, out, _ = nad("doctor", "-m", tmp_path, "--json")
    found = {finding["name"]: finding for finding in json.loads(out)}
    assert code == 0
    assert found["neurons"]["status"] == "missing"
    assert "no layer of MambaForCausalLM has a feed-forward block" in found["neurons"]["advice"]


def test_doctor_knows_every_extra_with_its_packages():
    declared = {
        extra: tuple(sorted({Requirement(requirement).name for requirement in requirements} - {PROJECT["name"]}))
        for extra, requirements in PROJECT["optional-dependencies"].items()
        if extra != "all"
    }
    assert declared == doctor._EXTRAS


def test_code_without_a_sandbox_is_chosen_by_neurons_and_says_so(nad, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    args = ("code", "x", "-m", folder, "-n", 3, "--max-new-tokens", 8, "--sandbox", "docker")
    code, _, err = nad(*args)
    assert code == 0
    assert "no sandbox, so neurons alone decide: " in err
    assert "3 candidates, ranked by nad_fusion" in err
    # what was asked for by name is not replaced by something else
    for asked in (("-s", "behaviour"), ("--verify",)):
        code, out, err = nad(*args, *asked)
        assert (code, out) == (4, "")
        assert "no Docker engine answers" in err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["ask", ""], 2, "empty"),
        (["ask", "x", "-n", "1", "-s", "knn"], 2, "n=1"),
        (["ask", "x", "-s", "medoit"], 2, "did you mean 'medoid'"),
        (["ask", "x", "-t", "0"], 2, "temperature 0"),
        (["ask", "x", "--stop", ""], 2, "stop="),
        (["ask", "x", "--max-new-tokens", "0"], 2, "max_new_tokens=0"),
        (["ask", "x", "--similarity", "dice"], 2, "jaccard"),
        (["ask", "x", "-m", "/no/such/folder"], 4, "no file or folder"),
        (["ask", "x", "--dtype", "int3"], 2, "int3"),
        (["code", "x", "-s", "knn", "--separate", "vote"], 2, "--separate compares what programs do"),
        (["code", "x", "-s", "knn", "--assertions"], 2, "--assertions compares what programs do"),
    ],
)
def test_a_users_mistake_is_one_line_and_an_exit_code(nad, args, code, message):
    got, out, err = nad(*args)
    assert got == code
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err + out


def test_errors_are_json_too(nad):
    code, out, _ = nad("ask", "x", "-s", "medoit", "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "UnknownSelectorError"


def test_a_bug_keeps_its_traceback(monkeypatch):
    from nad_agents.cli import main

    def broken():
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys, "argv", ["nad", "ask"])
    monkeypatch.setattr("nad_agents.cli.commands.app", broken)
    with pytest.raises(ZeroDivisionError):
        main()


def test_a_system_without_a_folder_for_temporary_files_is_said(nad, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/no/such"])
    monkeypatch.setattr("nad_agents.cli.commands.app", tempfile.mkdtemp)
    code, _, err = nad("ask", "x")
    assert code == 4
    assert err == ("error: no folder for temporary files can be written to; mount one at /tmp, or set TMPDIR to one\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError(""), 2),
        (UnknownSelectorError(""), 2),
        (PromptError(""), 2),
        (RunError(""), 2),
        (NoCandidatePassedError(""), 3),
        (ModelLoadError(""), 4),
        (MissingDependencyError(""), 4),
        (GenerationError(""), 1),
    ],
)
def test_exit_codes_mean_something(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("command", "place", "said"),
    [
        (("bench", "task", "--out", "run"), "nad_agents.evaluation.datasets.load_problems", "--resume"),
        (("report", "run"), "nad_agents.cli.report.parse_selectors", "the same command goes on"),
        (("doctor",), "nad_agents.cli.doctor._check_python", "interrupted"),
    ],
)
def test_an_interrupted_command_says_how_to_go_on(nad, monkeypatch, command, place, said):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    code, _, err = nad(*command)
    assert code == 130
    assert "error: interrupted" in err
    assert said in err


class _LaterBlock:
    """A verifier that accepts the second program of an answer."""

    def verify(self, answer, *, prompt=""):
        from nad_sandbox.checks.report import Report

        return Report(passed=self.passes, checks=(), code="print('second')")

    def fingerprint(self, answer):
        return answer

    def __init__(self, *, passes):
        self.passes = passes


@pytest.mark.parametrize("passes", [True, False])
def test_code_may_check_all_and_let_the_model_separate_leading_groups(nad, monkeypatch, passes):
    from nad_sandbox import AssertionRunner
    from nad_sandbox.backends.local import UnsafeLocalSandbox

    from nad_agents.cli import generate
    from nad_agents.input_proposals import ModelSeparator
    from nad_agents.self_evaluation import ModelJudge
    from nad_agents.testing import ScriptedAnswer, ScriptedDecoder

    asked = []

    class Watched(ScriptedDecoder):
        def decode(self, prompt, **options):
            asked.append(options)
            return super().decode(prompt, **options)

    separation = {"candidates": [0, 1], "inputs": ["f(0)"], "decided_by": "judge"}
    details = {
        "inputs": ["f(1)", "f(0)"],
        "groups": [0, 1],
        "behaviours": [{"size": 1, "outcomes": ["2", "3"]}, {"size": 1, "outcomes": ["2", "4"]}],
        "separation": {**separation, "generated_tokens": 20, "questions": 2, "seconds": 0.5},
    }
    answer = ScriptedAnswer(["```python\nprint('first')\n```", "no"], details=details)
    monkeypatch.setattr(generate, "_load_decoder", lambda *_: Watched(answer))
    monkeypatch.setattr(generate, "open_sandbox", lambda *_, **__: UnsafeLocalSandbox())
    monkeypatch.setattr(generate, "code_verifier", lambda *_: _LaterBlock(passes=passes))
    code, _, err = nad("code", "print something", "-n", 2, "--check-all", "--separate", "judge", "--assertions")
    assert code == (0 if passes else 3)
    said = "the judge on 1 proposed inputs decided between #0 and #1, for 20 tokens, 2 questions and 0.5 s"
    assert said in " ".join(err.split())
    assert asked[0]["verification"].check_all
    options = asked[0]["config"].selector_options
    assert isinstance(options["separate"], ModelSeparator)
    assert isinstance(options["judge"], ModelJudge)
    assert isinstance(options["assertions"], AssertionRunner)


@pytest.mark.parametrize("passes", [True, False])
def test_code_prints_the_program_that_was_checked(nad, monkeypatch, passes):
    from nad_agents.cli import generate
    from nad_agents.testing import ScriptedDecoder

    answer = "```python\nprint('first')\n```\nor\n```python\nprint('second')\n```"
    monkeypatch.setattr(generate, "_load_decoder", lambda *_: ScriptedDecoder(answer))
    monkeypatch.setattr(generate, "open_sandbox", lambda *_, **__: object())
    monkeypatch.setattr(generate, "code_verifier", lambda *_: _LaterBlock(passes=passes))
    code, out, _ = nad("code", "print something", "-n", 2, "--selector", "first", "--verify")
    assert (code, out) == (0 if passes else 3, "print('second')\n")
    out = nad("code", "print something", "-n", 2, "--selector", "first")[1]
    assert out.startswith("print('first')")
