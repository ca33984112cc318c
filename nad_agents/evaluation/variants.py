"""What a report compares: selectors under different comparisons, grouped by the question that they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nad_agents.activated_sets import ComparisonConfig

__all__ = ["Family", "Variant", "position_variants", "standard_variants", "width_variants"]

Family = Literal["agreement", "sparsity", "confidence", "fusion", "baseline"]
"""What a selector looks at."""

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
}
"""The built-in selectors that are compared, in the order of a report; `random` enters as its expectation."""


@dataclass(frozen=True)
class Variant:
    """A selector with everything that it is told.

    Attributes:
        label: what a report calls it.
        selector: registered name.
        comparison: what is compared.
        options: the selector's own.
        skip_shared: leave out, besides, the tokens with which all candidates of a problem begin alike.
    """

    label: str
    selector: str
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    options: Mapping[str, Any] = field(default_factory=dict)
    skip_shared: bool = False

    @property
    def family(self) -> Family:
        """What the selector looks at."""
        return FAMILIES.get(self.selector, "baseline")


def standard_variants(*, first_layer: int, n_layers: int, answers: bool) -> list[Variant]:
    """Every selector as it is, and the variants against length.

    Args:
        first_layer: first recorded layer.
        n_layers: number of recorded layers.
        answers: whether final answers can be compared, as majority does.
    """
    plain = ComparisonConfig()
    found = [Variant(name, name, plain) for name in FAMILIES if name != "majority"]
    if answers:
        found.append(Variant("majority", "majority", plain, {"extractor": "boxed"}))
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
        Variant("fusion of weighted knn and logprob", "nad_fusion", weighted, {"sparsity": 0.0}),
    ]
    if n_layers >= 3:
        cuts = [first_layer + n_layers * part // 3 for part in range(4)]
        found += [
            Variant(f"knn, {name} third of the layers", "knn", replace(plain, layers=(cuts[part], cuts[part + 1])))
            for part, name in enumerate(("first", "middle", "last"))
        ]
    return found


def position_variants(tokens: tuple[int, ...] = (32, 64, 128)) -> dict[int, list[Variant]]:
    """Selecting after so many tokens: what early stopping would have known."""
    names = ("knn", "medoid", "min_act", "mean_logprob", "deepconf", "nad_fusion")
    return {
        count: [Variant(name, name, ComparisonConfig(chunk_size=count, chunks=1)) for name in names] for count in tokens
    }


def width_variants(recorded: int) -> dict[int, list[Variant]]:
    """Fewer activated neurons per token than were recorded."""
    widths = [k for k in (50, 100, 200, 300, 400) if k < recorded]
    return {k: [Variant(name, name, ComparisonConfig(top_k=k)) for name in ("knn", "min_act")] for k in widths}
