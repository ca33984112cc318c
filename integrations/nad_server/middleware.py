"""ASGI middleware that runs before every endpoint: request metrics, host check, API key and request-size limit."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nad_server.disconnect import ClientGoneError
from nad_server.errors import APIError
from nad_server.metrics import Metrics

__all__ = ["APIKeyCheck", "BodyLimit", "HostCheck", "RequestMetrics"]

_WITHOUT_KEY = {"/health", "/docs", "/openapi.json", "/ui"}
_PAGE, _PAGE_API = "/ui/", "/ui/api/"
"""Paths of the page, which asks its user for the key: the files need no key, but the page's requests do."""

_COUNTED = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/models",
    "/health",
    "/metrics",
    "/ui/api/decode",
}
_PORT = re.compile(r":\d*$")


class RequestMetrics:
    """Counts requests by endpoint and status, and ends without a response those whose client has left.

    Args:
        app: The application behind the middleware.
        metrics: Takes the counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        endpoint = _endpoint(scope["path"])
        try:
            await self._app(scope, receive, note_status)
        except ClientGoneError:
            status = 499
            self._metrics.disconnects.inc()
        finally:
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)


class HostCheck:
    """Rejects requests whose Host header names another host, as a web page that rebinds its own name would send them.

    Args:
        app: The application behind the middleware.
        hosts: Host names and addresses without port, an IPv6 address without brackets; none of them allows every host.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and self._hosts:
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if _PORT.sub("", host).strip("[]").rstrip(".").lower() not in self._hosts:
                names = ", ".join(sorted(self._hosts))
                message = f"this server answers to {names} only; call it so, or give it an --api-key for every name"
                await APIError(403, message, code="host_not_allowed").response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class APIKeyCheck:
    """Rejects requests without a valid API key; keys are compared in constant time.

    Args:
        app: The application behind the middleware.
        keys: The valid keys; none of them allows every request.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        # a browser asks with OPTIONS, and without the key, whether it may send the request at all
        if scope["type"] == "http" and self._keys and _needs_key(scope["path"]) and scope["method"] != "OPTIONS":
            authorization = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, token = authorization.partition(b" ")
            # every key is compared, so that the time does not reveal which key was nearly right
            matches = [hmac.compare_digest(token.strip(), key) for key in self._keys]
            if scheme.lower() != b"bearer" or not any(matches):
                message = "no valid API key; send it as 'Authorization: Bearer KEY'"
                refused = APIError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
                await refused.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Rejects bodies that are too long, with or without a Content-Length header, before they are held in memory.

    Args:
        app: The application behind the middleware.
        limit: The longest body in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        # 1. the body is read up to the limit
        content_length = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = content_length.isdigit() and int(content_length) > self._limit
        chunks: list[bytes] = []
        size, more = 0, True
        while more and not too_long:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more, too_long = message.get("more_body", False), size > self._limit
        if too_long:
            text = f"the body is longer than the {self._limit} bytes that this server takes; shorten it"
            refused = APIError(413, text, code="body_too_large", headers={"Connection": "close"})
            await refused.response()(scope, receive, send)
            return
        # 2. the application gets it in one message
        body, replayed = b"".join(chunks), False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _endpoint(path: str) -> str:
    """Return the endpoint of a path; all unknown paths are one, since each endpoint is a metric of its own."""
    if path.startswith("/v1/models/"):
        return "/v1/models/{model}"
    return path if path in _COUNTED else "other"


def _needs_key(path: str) -> bool:
    return path not in _WITHOUT_KEY and (not path.startswith(_PAGE) or path.startswith(_PAGE_API))
