"""What load_model says before it does anything expensive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nad_agents.exceptions import (
    ConfigurationError,
    MissingDependencyError,
    ModelLoadError,
    NADError,
    UnsupportedModelError,
)
from nad_agents.models import gguf, load_model
from tests.unit.models.errors import one_line


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
        assert "this folder as adapter=" in self.fails(tmp_path)

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
