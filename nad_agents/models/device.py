"""Choose the device and floating-point type of a model: resolve "auto", and check everything else."""

from __future__ import annotations

from typing import Any

import torch

from nad_agents.exceptions import ConfigurationError
from nad_agents.models.int8 import check_int8_support

__all__ = ["resolve_device", "resolve_dtype"]

_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to run on.

    Args:
        device: "auto" (cuda, else mps, else cpu), or one of torch's devices such as "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ConfigurationError: torch does not know the device, or this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        msg = f"device={device!r} is not a device; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
        raise ConfigurationError(msg) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        msg = f"device={device!r}, but torch sees no CUDA device here; use 'auto' or 'cpu', or install torch with CUDA"
        raise ConfigurationError(msg)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        msg = f"device={device!r}, but there are {torch.cuda.device_count()} CUDA devices, counted from cuda:0"
        raise ConfigurationError(msg)
    if found.type == "mps" and not torch.backends.mps.is_available():
        msg = f"device={device!r}, but Metal is not available here; use 'auto' or 'cpu'"
        raise ConfigurationError(msg)
    if found.type not in {"cpu", "cuda", "mps"}:
        msg = f"device={device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'mps'"
        raise ConfigurationError(msg)
    return found


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type of the weights, which is also the type of the arithmetic.

    "auto" is bfloat16 wherever the device computes in it natively: CUDA from Ampere on, Metal from macOS 14 on, and
    CPUs with AVX512-BF16, AMX or ARM's BF16. Elsewhere it is float16 on CUDA and float32 otherwise, because emulated
    bfloat16 is slower than float32.

    Args:
        dtype: "auto", "float32", "bfloat16", "float16", "int8", or one of these as a torch.dtype. "int8" applies to the
            weights of linear layers (see `nad_agents.models.int8`); everything else is float32 then.
        device: Device that the model will run on.

    Raises:
        ConfigurationError: The value is none of these, or int8 does not work on the device.
    """
    if dtype == "auto":
        return _native_dtype(device)
    found = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in _DTYPES.values():
        msg = f"dtype={dtype!r} is not supported; use 'auto', {', '.join(map(repr, _DTYPES))}"
        raise ConfigurationError(msg)
    if found == torch.int8:
        check_int8_support(device)
    return found


def _native_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "mps":
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float32
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    # torch before 2.10 cannot list the capabilities of the CPU; float32 works on every CPU
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
