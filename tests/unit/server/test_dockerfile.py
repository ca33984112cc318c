"""The image of the server: not root, checked for health, and started with options that the command has."""

import json
import re
import shlex

import pytest

from tests.unit.docs_scripts import reference
from tests.unit.sources import ROOT

TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


def test_the_server_does_not_run_as_root():
    *_, user = re.findall(r"^USER (\S+)$", TEXT, re.MULTILINE)
    assert all(int(part) > 0 for part in user.split(":"))


def test_the_server_is_started_with_options_of_the_command():
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", TEXT, re.MULTILINE)
    program, name, *arguments = json.loads(entry)
    assert program == "nad"
    context = dict(reference.commands())[name].make_context(name, arguments)
    assert f"EXPOSE {context.params['port']}\n" in TEXT


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/containers.md"])
def test_what_a_page_hands_to_the_image_are_options_of_the_command(page):
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^docker run .*? nad-server(?::\w+)?( .*)?$", text, re.MULTILINE)
    assert lines
    for options in lines:
        dict(reference.commands())["serve"].make_context("serve", shlex.split(options))


def test_health_is_asked_at_an_endpoint_that_needs_no_key():
    from nad_server import ServerSettings, create_app
    from starlette.testclient import TestClient

    from nad_agents.testing import ScriptedDecoder

    (path,) = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", TEXT)
    app = create_app(ScriptedDecoder("", name="model"), ServerSettings(api_keys=("secret",)))
    assert TestClient(app).get(path).status_code == 200
