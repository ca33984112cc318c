"""The metrics that Prometheus reads; each application has a registry of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nad_agents.types import Usage

__all__ = ["FirstTextTimer", "Metrics"]

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """The metrics of one server.

    Attributes:
        requests: Counts requests by endpoint and HTTP status.
        disconnects: Counts requests whose client left before the end of the response.
        seconds: Seconds from each request to the end of its response, by endpoint.
        first_token_seconds: Seconds from each streaming request to its first text, by endpoint.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(name, help_text, labels, registry=self._registry)

        def histogram(name: str, help_text: str) -> Histogram:
            return Histogram(name, help_text, ("endpoint",), registry=self._registry, buckets=_SECONDS)

        self.requests = counter("nad_requests", "Requests by endpoint and HTTP status", "endpoint", "status")
        self.disconnects = counter("nad_disconnects", "Requests whose client left before the answer")
        self.seconds = histogram("nad_request_seconds", "Seconds from a request to the end of its answer")
        self.first_token_seconds = histogram("nad_first_token_seconds", "Seconds from a request to its first text")
        self._tokens = counter("nad_tokens", "Tokens: of prompts, of all candidates, of winners, saved", "kind")
        self._selections = counter(
            "nad_selections", "Answers by selector and what the checks said", "selector", "check"
        )

    def add_gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a metric whose value is computed each time the metrics are read."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def count_selection(self, selector: str, usage: Usage, *, verified: bool | None) -> None:
        """Count an answer, its tokens, and the results of its checks.

        Args:
            selector: Name of the selector that chose the answer.
            usage: Number of tokens of the request.
            verified: Whether the answer passed its checks; None if it was not checked.
        """
        for kind in ("prompt", "generated", "winner", "saved"):
            self._tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens"))
        check = {None: "none", True: "passed", False: "failed"}[verified]
        self._selections.labels(selector, check).inc()

    def first_text_timer(self, endpoint: str) -> FirstTextTimer:
        """Start measuring how long a streaming request to an endpoint waits for its first text."""
        return FirstTextTimer(self.first_token_seconds.labels(endpoint).observe)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class FirstTextTimer:
    """Measures the seconds from its creation to the first text of a stream.

    Args:
        observe: Takes the seconds.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._started = time.perf_counter()
        self._stopped = False

    def stop(self) -> None:
        """Take the time at the first call; further calls do nothing."""
        if not self._stopped:
            self._stopped = True
            self._observe(time.perf_counter() - self._started)
