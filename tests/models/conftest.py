"""Every test has a cache of its own."""

from tests.own_cache import own_cache

__all__ = ["own_cache"]
