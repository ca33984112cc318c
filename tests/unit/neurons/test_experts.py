"""Which devices multiply the rows of all experts at once."""

from types import SimpleNamespace

import pytest
import torch

from nad_agents.neurons import experts


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "grouped"),
    [
        ("cuda", torch.bfloat16, (9, 0), True),
        ("cuda", torch.bfloat16, (10, 0), True),
        # where torch loops over the experts, and waits for the device in every call
        ("cuda", torch.bfloat16, (8, 0), False),
        ("cuda", torch.bfloat16, (12, 0), False),
        ("cuda", torch.float16, (9, 0), False),
        ("cpu", torch.bfloat16, (9, 0), False),
    ],
)
def test_experts_are_grouped_where_there_is_a_kernel(monkeypatch, device, dtype, capability, grouped):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(experts.functional, "grouped_mm", None, raising=False)
    assert experts._can_group(SimpleNamespace(device=torch.device(device), dtype=dtype)) is grouped
