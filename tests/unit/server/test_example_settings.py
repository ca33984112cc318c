"""The settings for clients in `examples/clients` are well-formed, and none of them cuts long edits."""

import json
import tomllib

import yaml

from tests.unit.sources import ROOT

CLIENTS = ROOT / "examples" / "clients"
READERS = {".json": json.loads, ".toml": tomllib.loads, ".yml": yaml.safe_load, ".yaml": yaml.safe_load}


def numbers(value, path=()):
    """Yield every number in nested settings with the names on the way to it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, (*path, name))
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, path)


def test_no_settings_limit_an_answer_to_less_than_a_long_edit():
    read = {file: READERS[file.suffix](file.read_text()) for file in CLIENTS.iterdir() if file.suffix in READERS}
    assert len(read) >= 5
    limits = [
        (file.name, value)
        for file, settings in read.items()
        for path, value in numbers(settings)
        if path[-1] in {"max_tokens", "maxTokens", "output", "max_output_tokens", "model_max_output_tokens"}
    ]
    # opencode's settings cannot do without
    assert [name for name, _ in limits] == ["opencode.json"]
    assert all(value >= 8192 for _, value in limits)
