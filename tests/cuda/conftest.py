"""The devices of the tests: a GPU, and the CPU with lists of operations in place of graphs.

What the tests do runs everywhere; what they show of CUDA needs a GPU.
"""

import pytest
import torch

from tests.captured_steps import recorded

__all__ = ["recorded"]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def device(request):
    """The device that steps are captured on."""
    if request.param == "cpu":
        request.getfixturevalue("recorded")
    return torch.device(request.param)
