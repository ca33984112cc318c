"""A full disk: one line before anything is fetched or converted, and nothing half is left."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelInfo, constants
from huggingface_hub.errors import OfflineModeIsEnabled

from nad_agents.exceptions import ModelLoadError
from nad_agents.models import embedded, gguf, gguf_conversion, load_model, location
from nad_agents.models.cache import cached_folder
from nad_agents.models.disk_space import check_disk_space
from nad_agents.models.gguf_conversion import converted_size
from nad_agents.models.gguf_header import GGUFMetadata
from nad_agents.models.hub import check_space_for_weights, find_in_hub_cache
from tests.unit.models.errors import one_line

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def free(monkeypatch):
    """Set how many bytes every disk has left."""

    def set_free(size):
        usage = type("Usage", (), {"free": size})
        monkeypatch.setattr("nad_agents.models.disk_space.shutil.disk_usage", lambda _folder: usage)

    return set_free


def test_folders_of_one_disk_count_together(free, tmp_path):
    needed = {tmp_path / "not" / "there": 60_000_000, tmp_path: 60_000_000}
    free(140_000_000)
    check_disk_space(needed, purpose="it")
    free(110_000_000)
    with pytest.raises(ModelLoadError, match=r"it needs about 137 MB in .*, and 110 MB are free") as error:
        check_disk_space(needed, purpose="it")
    assert "NAD_CACHE_DIR" in one_line(error)


def test_the_default_model_is_not_fetched_where_it_has_no_room(free, monkeypatch):
    free(200_000_000)
    monkeypatch.setattr(embedded, "_download", lambda *_: pytest.fail("it was fetched"))
    monkeypatch.setattr(embedded, "_installed_file", lambda: None)
    with pytest.raises(ModelLoadError, match=r"the default model needs about \d+ MB") as error:
        load_model()
    one_line(error)


def test_a_file_is_not_converted_where_its_weights_have_no_room(free, monkeypatch, tmp_path, own_cache):
    metadata = GGUFMetadata("llama", "", (), 1, True, "Q4_1", 100_000_000)
    assert converted_size(metadata) == 200_000_000
    free(150_000_000)
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    monkeypatch.setattr(gguf, "read_header", lambda _path: (None, metadata))
    monkeypatch.setattr(gguf_conversion, "convert", lambda *_: pytest.fail("it was converted"))
    with pytest.raises(ModelLoadError, match=r"converting model.gguf needs about 217 MB") as error:
        load_model(path)
    one_line(error)
    assert not [entry for entry in (own_cache / "models").iterdir() if entry.suffix != ".lock"]


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_leaves_nothing(own_cache, tmp_path):
    def build(folder: Path):
        (folder / "weights").write_bytes(b"half")
        raise FULL

    with pytest.raises(ModelLoadError, match=r"could not be written: .*No space left on device") as error:
        cached_folder("key", build)
    one_line(error)
    assert not [entry for entry in (own_cache / "models").iterdir() if entry.suffix != ".lock"]

    class Full(io.BytesIO):
        def read(self, *_):
            raise FULL

    with pytest.raises(ModelLoadError, match="No space left on device"):
        embedded.copy_checked(Full(), tmp_path / "x.gguf", "0" * 64)
    assert not (tmp_path / "x.gguf").exists()


SHA = "a" * 40


class Api:
    """Tells the sizes of a repository's files as the hub does."""

    def __init__(self, files):
        self.files = files

    def model_info(self, model, *, revision, files_metadata, timeout):
        assert files_metadata
        if isinstance(self.files, Exception):
            raise self.files
        return ModelInfo(id=model, sha=SHA, siblings=[{"rfilename": n, "size": s} for n, s in self.files.items()])


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    return snapshot


SHARDS = {f"model-0000{i}-of-00002.safetensors": 60_000_000 for i in (1, 2)}


@pytest.mark.parametrize(
    ("files", "megabytes"),
    [
        ({"model.safetensors": 90_000_000, "pytorch_model.bin": 10**12, "onnx/model.onnx": 10**12}, 107),
        ({"model.safetensors.index.json": 9, **SHARDS, "consolidated.safetensors": 10**12}, 137),
        ({"pytorch_model.bin": 90_000_000, "original/model.safetensors": 10**12}, 107),
        ({"pytorch_model.bin.index.json": 9, "pytorch_model-00001-of-00001.bin": 90_000_000}, 107),
    ],
)
def test_a_hub_model_is_not_fetched_where_it_has_no_room(free, hub_cache, files, megabytes):
    free(1_000_000 * megabytes + 2_000_000)
    check_space_for_weights("owner/name", None, api=Api(files))
    free(1_000_000 * megabytes - 2_000_000)
    with pytest.raises(ModelLoadError, match=rf"fetching owner/name needs about {megabytes} MB in .*HF_HOME") as error:
        check_space_for_weights("owner/name", None, api=Api(files))
    one_line(error)


def test_what_is_in_the_cache_needs_no_room(free, hub_cache):
    files = {"model.safetensors.index.json": 9, **SHARDS}
    free(100_000_000)
    with pytest.raises(ModelLoadError, match="137 MB"):
        check_space_for_weights("owner/name", None, api=Api(files))
    (hub_cache / next(iter(SHARDS))).touch()
    check_space_for_weights("owner/name", None, api=Api(files))


@pytest.mark.parametrize(
    "files", [{}, {"model.gguf": 10**12}, {"model.safetensors": None}, OfflineModeIsEnabled("offline"), TimeoutError()]
)
def test_where_the_hub_tells_no_sizes_nothing_is_refused(free, hub_cache, files):
    free(20_000_000)
    check_space_for_weights("owner/name", None, api=Api(files))


def test_half_a_sharded_model_is_not_in_the_cache(hub_cache):
    for name in ("config.json", "tokenizer_config.json"):
        (hub_cache / name).write_text("{}")
    weights = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
    (hub_cache / "model.safetensors.index.json").write_text(json.dumps(weights))
    first, second = SHARDS
    (hub_cache / first).touch()
    assert find_in_hub_cache("owner/name", SHA) is None
    (hub_cache / second).touch()
    assert find_in_hub_cache("owner/name", SHA) == hub_cache


def test_a_hub_that_cannot_be_reached_refuses_nothing(free, hub_cache):
    free(0)
    check_space_for_weights("owner/name", None, api=HfApi(endpoint="http://127.0.0.1:9"))


def test_load_model_asks_before_it_fetches(free, hub_cache, monkeypatch):
    free(20_000_000)
    (hub_cache / "config.json").write_text("{}")
    monkeypatch.setattr(location, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(location, "fetch_file", lambda *_: hub_cache)
    monkeypatch.setattr(location, "read_config", lambda *_: None)
    monkeypatch.setattr(location, "check_decoder_only", lambda *_: None)
    monkeypatch.setattr("nad_agents.models.hub.HfApi", lambda: Api({"model.safetensors": 90_000_000}))
    with pytest.raises(ModelLoadError, match="fetching owner/name needs about 107 MB"):
        load_model("owner/name")
