"""What is counted for Prometheus; a registry of its own for each application."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nad_agents.types import Usage

__all__ = ["Metrics"]

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(name, about, labels, registry=self._registry)

        def histogram(name: str, about: str) -> Histogram:
            return Histogram(name, about, ("endpoint",), registry=self._registry, buckets=_SECONDS)

        self.requests = counter("nad_requests", "Requests by endpoint and HTTP status", "endpoint", "status")
        self.disconnects = counter("nad_disconnects", "Requests whose client left before the answer")
        self.seconds = histogram("nad_request_seconds", "Seconds from a request to the end of its answer")
        self.first_token_seconds = histogram("nad_first_token_seconds", "Seconds from a request to its first text")
        self._tokens = counter("nad_tokens", "Tokens: of prompts, of all candidates, of winners, saved", "kind")
        self._selections = counter(
            "nad_selections", "Answers by selector and what the checks said", "selector", "check"
        )

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Show a number that is asked for when the metrics are read."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def selected(self, selector: str, usage: Usage, *, verified: bool | None) -> None:
        """Count an answer."""
        for kind in ("prompt", "generated", "winner", "saved"):
            self._tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens"))
        check = {None: "none", True: "passed", False: "failed"}[verified]
        self._selections.labels(selector, check).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
