"""Options of the command line that are made of the fields of the configs."""

import re
import sys

import pytest
from nad_server.settings import ServerSettings
from pydantic import BaseModel, Field

from nad_agents import DEFAULT_MODEL, NADConfig, SamplingConfig
from nad_agents.cli import main, options
from nad_agents.cli.options import count_or_auto, option
from nad_agents.config_fields import description


class Fields(BaseModel):
    """One field for each kind of bounds."""

    low: int = Field(default=1, ge=1, description="A number.")
    above: float = Field(default=1, gt=0, description="A number.")
    high: int = Field(default=1, le=9, description="A number.")
    between: float = Field(default=1, gt=0, le=1, description="A number.")
    free: int = Field(default=1, description="A number.")


@pytest.mark.parametrize(
    ("field", "bounds"),
    [("low", "[x>=1]"), ("above", "[x>0]"), ("high", "[x<=9]"), ("between", "[0<x<=1]"), ("free", "")],
)
def test_help_shows_the_bounds(field, bounds):
    made = option(Fields, field)
    # a backslash keeps rich from taking the brackets for markup
    assert made.help.replace("\\", "") == f"A number. {bounds}".strip()


def test_help_names_the_choices():
    assert option(NADConfig, "score").help.endswith("emitted token's logit. One of activation, attribution.")


def test_the_default_model_is_the_librarys():
    assert options.DEFAULT_MODEL == DEFAULT_MODEL


@pytest.fixture
def shown(monkeypatch, capsys):
    """The help of a command on one line, without the borders."""

    def help_of(command):
        monkeypatch.setattr(sys, "argv", ["nad", command, "--help"])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit):
            main()
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        return " ".join(" ".join(lines).replace("│", " ").split())

    return help_of


SAMPLING = ("n", "wave", "max_new_tokens", "temperature", "top_p", "top_k", "seed", "stop")
COMPARISON = ("similarity", "compare_chunks", "chunk_size", "skip_tokens", "common_prefix")
SETTINGS = ("max_tokens", "min_temperature", "max_candidates", "max_prompt_tokens", "max_rows", "max_waiting", "ui")


@pytest.mark.parametrize(
    ("command", "config", "fields"),
    [
        ("ask", SamplingConfig, SAMPLING),
        ("ask", NADConfig, ("similarity", "score")),
        ("code", SamplingConfig, SAMPLING),
        ("code", NADConfig, ("similarity", "score")),
        ("bench", SamplingConfig, ("n", "temperature", "top_p", "top_k")),
        ("bench", NADConfig, ("score",)),
        ("select", NADConfig, COMPARISON),
        ("serve", SamplingConfig, ("n", "temperature")),
        ("serve", ServerSettings, SETTINGS),
    ],
)
def test_help_has_the_descriptions_and_defaults_of_the_configs(shown, command, config, fields):
    text = shown(command)
    assert "None" not in text
    for field in fields:
        # the words of one option, up to the name of the next one
        (words,) = re.findall(rf"{re.escape(description(config, field))}(.*?)(?: --|╰)", text)
        default = config.model_fields[field].default
        assert (f"[default: {default}]" in words) is (bool(default) or (default == 0 and default is not False))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["-n", "0"], "n=0"),
        (["--wave", "0"], "wave=0"),
        (["--top-p", "2"], "top_p=2.0"),
        (["--top-k", "-1"], "top_k=-1"),
        (["--temperature", "-1"], "temperature=-1.0"),
        (["--seed", "-1"], "seed=-1"),
        (["--keep", "0"], "keep=0"),
        (["--halve", "1"], "shrink=1"),
    ],
)
@pytest.mark.parametrize("command", ["ask", "code"])
def test_a_value_out_of_bounds_is_one_line_and_exit_code_2(monkeypatch, capsys, command, arguments, wrong):
    monkeypatch.setattr(sys, "argv", ["nad", command, "x", "-m", "/no/such/model", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith(f"error: {wrong}: input should be ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), ("1", 1), ("2048", 2048)])
def test_a_number_or_auto(value, expected):
    assert count_or_auto("--max-rows", value) == expected


@pytest.mark.parametrize(
    ("command", "option"), [("serve", "--max-rows"), ("bench", "--max-rows"), ("bench", "--in-flight")]
)
@pytest.mark.parametrize("value", ["0", "-3", "some", "1.5"])
def test_neither_a_number_nor_auto(monkeypatch, capsys, tmp_path, command, option, value):
    tasks = ["tasks.jsonl", "--out", str(tmp_path / "run")] if command == "bench" else []
    monkeypatch.setattr(sys, "argv", ["nad", command, *tasks, "-m", "/no/such/model", f"{option}={value}"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err == f"error: {option} {value}: give a number from 1, or auto\n"
