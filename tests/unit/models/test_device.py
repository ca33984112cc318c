"""Choosing device and dtype."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from nad_agents.exceptions import (
    ConfigurationError,
)
from nad_agents.models import resolve_device, resolve_dtype
from tests.unit.models.errors import one_line

CPU = torch.device("cpu")


class TestDeviceAndDtype:
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

    @pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
    def test_auto_dtype_on_a_gpu_without_bfloat16_is_float16(self, monkeypatch, native, expected):
        current = []

        @contextmanager
        def on_device(device):
            current.append(device)
            yield
            current.pop()

        def supported(*, including_emulation):
            # torch looks at the current device
            assert current == [torch.device("cuda", 1)]
            return native or including_emulation

        monkeypatch.setattr(torch.cuda, "device", on_device)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        assert resolve_dtype("auto", torch.device("cuda", 1)) == expected

    def test_auto_dtype_without_knowledge_is_float32(self, monkeypatch):
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        assert resolve_dtype("auto", CPU) == torch.float32
