"""What stands before every endpoint: the name by which the server is called, the key, the size of the body."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nad_server.errors import APIError, JSONAnswer
from nad_server.metrics import Metrics
from nad_server.sse import ClientGoneError

__all__ = ["BodyLimit", "HostCheck", "KeyCheck"]


_OPEN = {"/health", "/docs", "/openapi.json", "/ui"}

_PAGE, _PAGE_API = "/ui/", "/ui/api/"
"""The page itself asks for the key; what it asks of the server needs it."""

_PORT = re.compile(r":\d*$")


def _is_open(path: str) -> bool:
    return path in _OPEN or (path.startswith(_PAGE) and not path.startswith(_PAGE_API))


class HostCheck:
    """Lets requests pass that call the server by one of its names, as a page that rebinds its own name cannot.

    Args:
        app: what is behind it.
        hosts: names and addresses without port, an IPv6 address without brackets; without any everybody passes.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and self._hosts:
            given = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if _PORT.sub("", given).strip("[]").rstrip(".").lower() not in self._hosts:
                names = ", ".join(sorted(self._hosts))
                message = f"this server answers to {names} only; call it so, or give it an --api-key for every name"
                refused = APIError(403, message, code="host_not_allowed")
                await JSONAnswer(refused.body(), status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class KeyCheck:
    """Lets requests pass that bring a key; keys are compared in constant time.

    Args:
        app: what is behind it.
        keys: any of them will do; without keys everybody passes.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        # a browser asks with OPTIONS, and without the key, whether it may ask at all
        if scope["type"] == "http" and self._keys and not _is_open(scope["path"]) and scope["method"] != "OPTIONS":
            given = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, token = given.partition(b" ")
            # every key is compared, so that the time does not tell which one was nearly right
            matches = [hmac.compare_digest(token.strip(), key) for key in self._keys]
            if scheme.lower() != b"bearer" or not any(matches):
                message = "no valid API key; send it as 'Authorization: Bearer KEY'"
                refused = APIError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
                answer = JSONAnswer(refused.body(), status_code=401, headers=refused.headers)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too long, whether they say so or not, before they are held in memory.

    Args:
        app: what is behind it.
        limit: bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        body, more = b"", True
        too_long = told.isdigit() and int(told) > self._limit
        parts: list[bytes] = []
        size = 0
        while more and not too_long:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more, too_long = message.get("more_body", False), size > self._limit
        if too_long:
            text = f"the body is longer than the {self._limit} bytes that this server takes; shorten it"
            refused = APIError(413, text, code="body_too_large", headers={"Connection": "close"})
            await JSONAnswer(refused.body(), status_code=413, headers=refused.headers)(scope, receive, send)
            return
        body = b"".join(parts)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


_ENDPOINTS = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/models",
    "/health",
    "/metrics",
    "/ui/api/decode",
}


def _endpoint(path: str) -> str:
    """The endpoint of a path; strangers' paths are one, as each would be a metric of its own."""
    if path.startswith("/v1/models/"):
        return "/v1/models/{model}"
    return path if path in _ENDPOINTS else "other"


class _Counting:
    """Counts requests by endpoint and status; ends those whose client is gone without an answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        endpoint = _endpoint(scope["path"])
        try:
            await self._app(scope, receive, watch)
        except ClientGoneError:
            status = 499
            self._metrics.disconnects.inc()
        finally:
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)
