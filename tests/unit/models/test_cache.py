"""The cache of converted models: whole or not at all, with several processes and after a kill."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from nad_agents.exceptions import ModelLoadError
from nad_agents.models import cache_dir, describe_cache, gguf
from nad_agents.models.cache import cached_folder, find_cached


class TestCache:
    def test_place(self, own_cache, monkeypatch):
        assert cache_dir() == own_cache
        monkeypatch.setenv("NAD_CACHE_DIR", "~/somewhere")
        assert cache_dir() == Path.home() / "somewhere"
        monkeypatch.delenv("NAD_CACHE_DIR")
        assert cache_dir().name.startswith("nad-agents")

    def test_builds_once(self):
        calls = []

        def build(folder: Path) -> dict[str, str]:
            calls.append(folder)
            (folder / "weights").write_bytes(b"x" * 10)
            return {"name": "tiny"}

        first, second = cached_folder("key", build), cached_folder("key", build)
        assert first == second == find_cached("key")
        assert len(calls) == 1
        assert (first / "weights").read_bytes() == b"x" * 10

    def test_describes_what_it_holds(self):
        assert describe_cache() == ()
        cached_folder("b", lambda folder: {"n": (folder / "w").write_bytes(b"12345")})
        cached_folder("a", lambda folder: {"n": 0})
        a, b = describe_cache()
        assert (a.key, b.key) == ("a", "b")
        assert b.manifest == {"n": 5}
        assert b.size_bytes == 5 + (b.path / "nad_agents.json").stat().st_size

    def test_failed_build_leaves_nothing(self, own_cache):
        def build(folder: Path) -> dict[str, str]:
            (folder / "half").write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cached_folder("key", build)
        assert find_cached("key") is None
        assert [path.name for path in (own_cache / "models").iterdir() if path.is_dir()] == []
        assert find_cached("key") is None
        assert cached_folder("key", lambda folder: {}) == find_cached("key")

    def test_folder_without_manifest_is_rebuilt(self, own_cache):
        broken = own_cache / "models" / "key"
        broken.mkdir(parents=True)
        (broken / "config.json").write_text("{")
        assert find_cached("key") is None
        found = cached_folder("key", lambda folder: {"fresh": (folder / "new").write_text("1")})
        assert sorted(path.name for path in found.iterdir()) == ["nad_agents.json", "new"]

    def test_keys_follow_content_and_version(self, monkeypatch):
        one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
        assert gguf.cache_key(one) != gguf.cache_key(two)
        before = gguf.cache_key(one)
        monkeypatch.setattr(gguf, "CONVERSION_VERSION", 999)
        assert gguf.cache_key(one) != before

    @pytest.mark.skipif(os.name == "nt", reason="a file in the folder's place is reported otherwise")
    def test_unwritable_cache(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("NAD_CACHE_DIR", str(tmp_path / "file"))
        with pytest.raises(ModelLoadError, match="NAD_CACHE_DIR") as error:
            cached_folder("key", lambda folder: {})
        assert "\n" not in str(error.value)
