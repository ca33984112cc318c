"""Refuse selectors that read the tokens' signals where vLLM's workers cannot record them."""

from __future__ import annotations

from nad_agents.exceptions import ConfigurationError
from nad_agents.selectors.base import Selector

__all__ = ["check_signals"]

_READERS = ("entropy", "self_certainty", "tail_entropy", "deepconf")
"""Names of the selectors that read more than the tokens, their log-probabilities and their neurons."""


def check_signals(selector: Selector, refusal: str) -> None:
    """Refuse a selector that reads signals.

    Args:
        selector: The selector of a request.
        refusal: Why the workers record no signals.

    Raises:
        ConfigurationError: The selector reads signals.
    """
    if selector.name in _READERS:
        msg = f"the selector {selector.name!r} reads a signal of each token: {refusal}"
        raise ConfigurationError(msg)
