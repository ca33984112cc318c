"""Every test has a cache of its own; captured steps run without a GPU."""

from tests.captured_steps import recorded
from tests.own_cache import own_cache

__all__ = ["own_cache", "recorded"]
