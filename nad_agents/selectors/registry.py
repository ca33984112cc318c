"""Selectors by name: built-in ones, those that a caller registers, and those that installed packages offer.

A package offers a selector through the entry-point group ``nad_agents.selectors``. The entry names a class or function
that takes ``comparison`` and its own options by keyword and returns a `Selector`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import numpy as np

from nad_agents.exceptions import ConfigurationError, UnknownSelectorError
from nad_agents.neurons.comparison import ComparisonConfig
from nad_agents.rollouts import RolloutGroup
from nad_agents.selectors.agreement import DBSCAN, KNN, Medoid
from nad_agents.selectors.assertions import B4, CodeT
from nad_agents.selectors.auto import Auto
from nad_agents.selectors.base import Scores, Selector, SelectorBase
from nad_agents.selectors.baselines import First, Random
from nad_agents.selectors.behaviour import Behaviour, BehaviourGroups
from nad_agents.selectors.confidence import (
    DeepConf,
    Entropy,
    MeanLogprob,
    SelfCertainty,
    Shortest,
    TailEntropy,
)
from nad_agents.selectors.consensus import ConsensusMin, Copeland
from nad_agents.selectors.fusion import NADFusion
from nad_agents.selectors.nex import NEX
from nad_agents.selectors.self_evaluation import PTrue, SelfVerify
from nad_agents.selectors.sparsity import MinAct, MinActPerToken, MinActResidual
from nad_agents.selectors.voting import Majority

__all__ = [
    "ENTRY_POINT_GROUP",
    "CallableSelector",
    "SelectorFactory",
    "available_selectors",
    "check_candidates",
    "check_recorder",
    "get_selector",
    "register_selector",
]

ENTRY_POINT_GROUP = "nad_agents.selectors"
"""Entry-point group through which installed packages offer selectors."""

SelectorFactory = Callable[..., Selector]
"""A callable that makes a selector from ``comparison`` and its own options, all by keyword."""

_BUILT_IN: tuple[type[SelectorBase], ...] = (
    Auto,
    KNN,
    Medoid,
    DBSCAN,
    ConsensusMin,
    Copeland,
    NADFusion,
    MinAct,
    MinActPerToken,
    MinActResidual,
    NEX,
    MeanLogprob,
    Entropy,
    SelfCertainty,
    DeepConf,
    TailEntropy,
    Shortest,
    Majority,
    Behaviour,
    BehaviourGroups,
    CodeT,
    B4,
    SelfVerify,
    PTrue,
    Random,
    First,
)

_registered: dict[str, SelectorFactory] = {c.name: cast("SelectorFactory", c) for c in _BUILT_IN}

_COMPARISON_OPTIONS = tuple(f.name for f in dataclasses.fields(ComparisonConfig))


@dataclass(frozen=True)
class CallableSelector:
    """A caller's own function as a selector.

    Attributes:
        function: Maps a group to N scores (anything that numpy converts to a float array), or to `Scores`.
        name: Name of the selector in results.
        needs_neurons: Whether the function reads activated neurons.
        min_candidates: Smallest number of candidates that the function can compare.
    """

    function: Callable[[RolloutGroup], Any]
    name: str
    needs_neurons: bool = False
    min_candidates: int = 1

    @classmethod
    def wrap(cls, function: Callable[[RolloutGroup], Any]) -> CallableSelector:
        """Wrap a function, respecting its attributes ``needs_neurons`` and ``min_candidates`` if it has them."""
        return cls(
            function,
            name=getattr(function, "__name__", type(function).__name__),
            needs_neurons=bool(getattr(function, "needs_neurons", False)),
            min_candidates=int(getattr(function, "min_candidates", 1)),
        )

    def score(self, group: RolloutGroup) -> Scores:
        """Score every candidate, in index order.

        Raises:
            ConfigurationError: The function did not return one number per candidate.
        """
        result = self.function(group)
        if isinstance(result, Scores):
            return result
        try:
            values = np.asarray(result, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.empty((0, 0))
        if values.shape != (len(group),):
            msg = (
                f"the selector {self.name} returned {type(result).__name__} {str(result)[:60]!r} for {len(group)} "
                "candidates; it must return one number per candidate, in index order"
            )
            raise ConfigurationError(msg)
        return Scores(values)


def register_selector(name: str, factory: SelectorFactory, *, replace: bool = False) -> None:
    """Register a selector under a name.

    Args:
        name: Name by which callers choose the selector.
        factory: Makes the selector; see `SelectorFactory`.
        replace: Whether to take over a name that is in use.

    Raises:
        ConfigurationError: The name is empty, or in use and `replace` is False.
    """
    if not name or not name.strip():
        msg = f"register_selector: name={name!r} is blank; give the selector a name"
        raise ConfigurationError(msg)
    if name in _registered and not replace:
        msg = f"a selector named {name!r} is registered already; choose another name, or pass replace=True"
        raise ConfigurationError(msg)
    _registered[name] = factory


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def available_selectors() -> list[str]:
    """List the names that `get_selector` knows, sorted; packages that offer selectors are not imported for it."""
    return sorted(_registered.keys() | _installed().keys())


def _factory(name: str) -> SelectorFactory:
    if name in _registered:
        return _registered[name]
    entry = _installed().get(name)
    if entry is None:
        names = available_selectors()
        near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        msg = f"no selector is named {name!r}; {hint}available: {', '.join(names)}"
        raise UnknownSelectorError(msg)
    try:
        return cast("SelectorFactory", entry.load())
    except Exception as error:
        origin = entry.dist.name if entry.dist else "an installed package"
        msg = (
            f"the selector {name!r} of {origin} could not be imported ({entry.value}: {error}); reinstall or remove it"
        )
        raise ConfigurationError(msg) from error


def _option_names(factory: SelectorFactory) -> list[str] | None:
    """Return the options that a factory takes besides the comparison; None if it takes any."""
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.name != "comparison" and p.kind is not p.VAR_POSITIONAL]


def get_selector(
    selector: str | Selector | Callable[..., Any],
    *,
    comparison: ComparisonConfig | None = None,
    **options: Any,
) -> Selector:
    """Make a selector.

    Args:
        selector: A registered name; a selector, which is returned unchanged; a selector class; or a function that maps
            a `RolloutGroup` to N scores.
        comparison: What is compared; the default compares everything by Jaccard similarity.
        options: The selector's own options, such as ``k`` of knn. A field of `ComparisonConfig`, such as
            ``similarity``, overrides the comparison for this selector.

    Raises:
        UnknownSelectorError: No selector has that name; the message suggests the nearest one.
        ConfigurationError: The selector does not have such an option, or an option has an invalid value.
    """
    if isinstance(selector, str):
        name, factory = selector, _factory(selector)
    elif isinstance(selector, type) and hasattr(selector, "score"):
        name, factory = str(getattr(selector, "name", selector.__name__)), cast("SelectorFactory", selector)
    else:
        if not isinstance(selector, Selector) and not callable(selector):
            msg = f"selector={selector!r} is neither a name, nor a selector, nor a function of a RolloutGroup"
            raise ConfigurationError(msg)
        made = selector if isinstance(selector, Selector) else CallableSelector.wrap(selector)
        if options:
            msg = f"{made.name} is a selector already and takes no options; got {', '.join(sorted(options))}"
            raise ConfigurationError(msg)
        return made

    valid = _option_names(factory)
    changes = {
        key: options.pop(key) for key in list(options) if key in _COMPARISON_OPTIONS and key not in (valid or ())
    }
    unknown = sorted(options.keys() - set(valid)) if valid is not None else []
    if unknown:
        own = f"its options are {', '.join(valid or ())}" if valid else "it has no options of its own"
        msg = (
            f"the selector {name!r} has no option {', '.join(map(repr, unknown))}; {own}; "
            f"any selector takes {', '.join(_COMPARISON_OPTIONS)}"
        )
        raise ConfigurationError(msg)
    compared = dataclasses.replace(comparison or ComparisonConfig(), **changes)
    return factory(comparison=compared, **options)


def check_candidates(selector: Selector, n: int) -> None:
    """Check before anything is generated that there will be enough candidates for a selector.

    Args:
        selector: The selector.
        n: Number of candidates that will be sampled.

    Raises:
        ConfigurationError: The selector needs more than `n` candidates.
    """
    if n < selector.min_candidates:
        msg = (
            f"the selector {selector.name!r} compares at least {selector.min_candidates} candidates, but n={n}; "
            "raise n (8 or more is usual), or choose a selector that judges each candidate alone, "
            "such as mean_logprob"
        )
        raise ConfigurationError(msg)


def check_recorder(selector: Selector, *, record: bool) -> None:
    """Check before anything is generated that a selector's neurons will be recorded.

    Args:
        selector: The selector.
        record: Whether neurons will be recorded.

    Raises:
        ConfigurationError: The selector needs activated neurons and the recorder is off.
    """
    if selector.needs_neurons and not record:
        msg = (
            f"the selector {selector.name!r} compares activated neurons, but the recorder is off (record=False); "
            "set record=True, or choose a selector that needs none, such as mean_logprob"
        )
        raise ConfigurationError(msg)
