"""Plan what to measure of every problem of a run: the variants to compare, and what to vary."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nad_agents.evaluation.variants import (
    FOLLOWED,
    Sweep,
    SweepName,
    Variant,
    neighbour_sweep,
    position_sweep,
    standard_variants,
    weight_sweep,
    width_sweep,
)
from nad_agents.evaluation.verdicts import read_verdicts
from nad_agents.exceptions import ConfigurationError
from nad_agents.runs import RecordedRun, RunError

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The measurements to make, which are the same for every problem of a run.

    Attributes:
        standard: The variants of the main table.
        sweeps: Variants by what is varied and its setting.
        sizes: Numbers of candidates, each smaller than N, to draw from the N.
    """

    standard: tuple[Variant, ...]
    sweeps: Mapping[SweepName, Sweep] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    @property
    def followed(self) -> tuple[Variant, ...]:
        """The variants of the main table that are evaluated for several numbers of candidates."""
        return tuple(variant for variant in self.standard if variant.label in FOLLOWED)

    @classmethod
    def for_run(cls, run: RecordedRun, *, selectors: Collection[str] | None = None) -> Plan:
        """Plan everything that a recording allows.

        Args:
            run: The run.
            selectors: Names of the selectors to compare; None for all.

        Raises:
            RunError: Nothing is recorded, or it was recorded without neurons.
            ConfigurationError: A selector cannot be compared on this run.
        """
        if not run.problems:
            msg = f"{run.folder} has no complete problem yet; wait for the first, or resume the recording"
            raise RunError(msg)
        head = run.header(run.problems[0])
        blocks = [s for s in head["sections"] if s["name"].startswith("neurons/")]
        if not blocks:
            msg = f"{run.folder} was recorded without neurons; record it again with the recorder on"
            raise RunError(msg)
        verdicts = read_verdicts(run.folder).values()
        layout, n, width = head["layout"], len(head["candidates"]), blocks[0]["shape"][1]
        standard = standard_variants(
            first_layer=layout["first_layer"],
            n_layers=layout["n_layers"],
            answers=all(run.header(problem)["task"].get("kind") == "answer" for problem in run.problems),
            examples=any(v.examples is not None for v in verdicts),
            behaviour=any(v.outcomes is not None for v in verdicts),
        )
        sweeps: dict[SweepName, Sweep] = {
            "position": position_sweep(),
            "width": width_sweep(width),
            "neighbours": neighbour_sweep(n),
            "weights": weight_sweep(),
        }
        if selectors is not None:
            known = list(dict.fromkeys(variant.selector for variant in standard))
            unknown = sorted(set(selectors) - set(known))
            if unknown or not selectors:
                what = ", ".join(unknown) or "nothing"
                msg = f"cannot compare {what} on this run; choose of {', '.join(known)}, or all"
                raise ConfigurationError(msg)
            standard = [variant for variant in standard if variant.selector in selectors]
            # keeps the same selectors at every setting of a sweep
            sweeps = {
                name: {
                    setting: tuple(v for v in variants if v.selector in selectors) for setting, variants in s.items()
                }
                for name, s in sweeps.items()
                if any(v.selector in selectors for variants in s.values() for v in variants)
            }
        return cls(tuple(standard), sweeps, tuple(size for size in (2, 4, 8, 16, 32, 64) if size < n))
