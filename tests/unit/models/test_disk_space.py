"""A full disk: one line before anything is fetched or converted, and nothing half is left."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from nad_agents.exceptions import ModelLoadError
from nad_agents.models import embedded, gguf, gguf_conversion, load_model
from nad_agents.models.cache import cached_folder
from nad_agents.models.disk_space import check_disk_space
from nad_agents.models.gguf_conversion import converted_size
from nad_agents.models.gguf_header import GGUFMetadata
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
