"""The variants that a report compares: selectors under different comparisons, grouped by the question they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from nad_agents.neurons.comparison import ComparisonConfig

__all__ = [
    "FOLLOWED",
    "SWEPT",
    "Family",
    "Sweep",
    "SweepName",
    "Variant",
    "neighbour_sweep",
    "position_sweep",
    "standard_variants",
    "weight_sweep",
    "width_sweep",
]

Family = Literal["agreement", "sparsity", "confidence", "fusion", "execution", "baseline"]
"""Kind of evidence that a selector looks at."""

SweepName = Literal["position", "width", "neighbours", "weights"]
"""Setting that a sweep varies: tokens seen, neurons per token, neighbors of knn, or weights of nad_fusion."""

FAMILIES: Mapping[str, Family] = {
    "knn": "agreement",
    "medoid": "agreement",
    "dbscan": "agreement",
    "copeland": "agreement",
    "consensus_min": "agreement",
    "min_act": "sparsity",
    "min_act_per_token": "sparsity",
    "min_act_residual": "sparsity",
    "nex": "sparsity",
    "mean_logprob": "confidence",
    "entropy": "confidence",
    "self_certainty": "confidence",
    "deepconf": "confidence",
    "tail_entropy": "confidence",
    "nad_fusion": "fusion",
    "shortest": "baseline",
    "first": "baseline",
    "majority": "baseline",
    "behaviour": "execution",
    "behaviour_groups": "execution",
}
"""Families of the built-in selectors in a report, in its order.

`random` is represented by its expectation, and `auto` always chooses one of the others.
"""

SWEPT = ("knn", "medoid", "min_act", "mean_logprob", "deepconf", "nad_fusion")
"""Names of the selectors that are evaluated at several positions."""

FOLLOWED = (
    "knn",
    "medoid",
    "copeland",
    "mean_logprob",
    "nad_fusion",
    "nad_fusion, weighted",
    "majority",
    "majority, weighted",
    "behaviour",
    "behaviour_groups",
    "nad_fusion, checked by the examples",
    "behaviour, checked by the examples",
)
"""Labels of the variants that are evaluated for several numbers of candidates."""

EVERYTHING = -1
"""The setting of a sweep at which nothing is left out."""


@dataclass(frozen=True)
class Variant:
    """A selector with all of its settings.

    Attributes:
        label: Name in a report.
        selector: Registered name of the selector.
        comparison: How candidates are compared.
        options: The selector's own options.
        skip_shared: Whether to leave out the tokens with which all candidates begin alike; a limit on the compared
            tokens then counts from their end.
        checked: Whether to take the first candidate in the ranking that satisfies the examples in the prompt.
    """

    label: str
    selector: str
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    options: Mapping[str, Any] = field(default_factory=dict)
    skip_shared: bool = False
    checked: bool = False

    @property
    def family(self) -> Family:
        """Kind of evidence that the selector looks at."""
        return "execution" if self.checked else FAMILIES.get(self.selector, "baseline")


Sweep = Mapping[int | str, tuple[Variant, ...]]
"""Variants by setting; every setting has the same labels."""


def standard_variants(
    *, first_layer: int, n_layers: int, answers: bool = False, examples: bool = False, behaviour: bool = False
) -> list[Variant]:
    """List the main table's variants: every selector as it is, variants against length, and variants that run code.

    Args:
        first_layer: Index of the first recorded layer.
        n_layers: Number of recorded layers.
        answers: Whether final answers can be compared, as `majority` does.
        examples: Whether candidates were run on the examples in their prompt.
        behaviour: Whether candidates were run on the same inputs.
    """
    plain = ComparisonConfig()
    present = {"majority": answers, "behaviour": behaviour, "behaviour_groups": behaviour}
    found = [Variant(name, name, plain) for name in FAMILIES if present.get(name, True)]
    weighted = replace(plain, similarity="weighted_jaccard_rates")
    prefix = replace(plain, common_prefix=True)
    found += [
        Variant("knn, weighted", "knn", weighted),
        Variant("knn, cosine", "knn", replace(plain, similarity="cosine")),
        Variant("knn, common length", "knn", prefix),
        Variant("knn, weighted, common length", "knn", replace(weighted, common_prefix=True)),
        Variant("knn, without the shared start", "knn", plain, skip_shared=True),
        Variant("min_act, common length", "min_act", prefix),
        Variant("mean_logprob, without the shared start", "mean_logprob", plain, skip_shared=True),
        Variant("medoid, weighted", "medoid", weighted),
        Variant("copeland, weighted", "copeland", weighted),
        Variant("nad_fusion, weighted", "nad_fusion", weighted),
        Variant("nad_fusion, k = 3", "nad_fusion", plain, {"k": 3}),
        Variant("nad_fusion, cut answers too", "nad_fusion", plain, {"whole_first": False}),
    ]
    if answers:
        found.append(Variant("majority, weighted", "majority", plain, {"weighted": True}))
    if n_layers >= 3:
        cuts = [first_layer + n_layers * part // 3 for part in range(4)]
        found += [
            Variant(f"knn, {name} third of the layers", "knn", replace(plain, layers=(cuts[part], cuts[part + 1])))
            for part, name in enumerate(("first", "middle", "last"))
        ]
    if examples:
        walked = ("knn", "nad_fusion", "mean_logprob", *(("behaviour",) if behaviour else ()))
        found += [Variant(f"{name}, checked by the examples", name, plain, checked=True) for name in walked]
    return found


def position_sweep(tokens: tuple[int, ...] = (32, 64, 128)) -> Sweep:
    """Vary after how many tokens the choice is made, with and without the shared start, as early stopping would."""

    def after(comparison: ComparisonConfig) -> tuple[Variant, ...]:
        later = Variant("knn, without the shared start", "knn", comparison, skip_shared=True)
        return (*(Variant(name, name, comparison) for name in SWEPT), later)

    found: dict[int | str, tuple[Variant, ...]] = {
        count: after(ComparisonConfig(chunk_size=count, compare_chunks=1)) for count in tokens
    }
    return found | {EVERYTHING: after(ComparisonConfig())}


def width_sweep(recorded: int) -> Sweep:
    """Vary the number of activated neurons per token, up to the recorded number."""
    names = ("knn", "medoid", "min_act")
    found: dict[int | str, tuple[Variant, ...]] = {
        k: tuple(Variant(name, name, ComparisonConfig(top_k_neurons=k)) for name in names)
        for k in (50, 100, 200, 300, 400)
        if k < recorded
    }
    return found | {recorded: tuple(Variant(name, name) for name in names)}


def neighbour_sweep(candidates: int) -> Sweep:
    """Vary the number of neighbors, which is three in the paper."""
    return {k: (Variant("knn", "knn", options={"k": k}),) for k in (1, 2, 3, 5, 8, 16, 32) if k < candidates}


def weight_sweep() -> Sweep:
    """Vary the weights of nad_fusion in steps of a quarter, labeled "agreement:sparsity:confidence" in quarters."""
    quarters = [parts for parts in product(range(5), repeat=3) if sum(parts) == 4]
    names = ("agreement", "sparsity", "confidence")
    return {
        ":".join(map(str, parts)): (
            Variant(
                "nad_fusion",
                "nad_fusion",
                # if cut candidates ranked last, no weight would reproduce a component alone
                options={**{n: p / 4 for n, p in zip(names, parts, strict=True)}, "whole_first": False},
            ),
        )
        for parts in quarters
    }
