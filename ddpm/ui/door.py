"""What stands between the network and Gradio: which addresses are open, and what a request may bring.

Gradio opens far more addresses than the page needs, among them some that write files, and it works on a request before
any check of ours runs. So addresses that nobody needs are closed, and bodies are read, bounded and looked at here.
Whatever is refused is answered with status 4xx and a reason.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ddpm.errors import first_line
from ddpm.ui.endpoints import ArgumentError, Endpoint
from ddpm.ui.server.listeners import Listeners

log = logging.getLogger(__name__)

PREFIX = "/gradio_api"
MCP = f"{PREFIX}/mcp"
MAX_DEPTH = 16  # of lists and objects in a body; a colour picture in a call by MCP needs 7
MAX_NAME = 64  # characters of what names a session or an event

# Under PREFIX only these are open. The page asks for all but /call, /mcp, openapi.json and cancel, which programs use.
OPEN = {
    "GET": re.compile(
        r"info|openapi\.json|app_id|startup-events|theme\.css|heartbeat/[^/]+"
        r"|queue/data|queue/status|call/(v2/)?[^/]+/[^/]+|mcp(/http|/sse|/schema)?"
    ),
    "POST": re.compile(r"queue/join|call/(v2/)?[^/]+|component_server|cancel|reset|mcp(/http)?|mcp/messages"),
    "DELETE": re.compile(r"mcp(/http)?"),
}
# Elsewhere Gradio's pages and files are open, and these are not.
CLOSED = re.compile(r"/(docs|redoc|openapi\.json|pwa_icon|login|logout|svelte|monitoring(?!/summary$))(/.*)?")
NOT_OPEN = f"nothing is open here; endpoints are called at {PREFIX}/call/NAME, and files are not taken"


class RefusedError(Exception):
    """A request that goes no further.

    Args:
        status: of the answer.
        detail: the reason, for people.
        argument: the name of the argument that is at fault, if one is.
    """

    def __init__(self, status: int, detail: str, argument: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.argument = status, detail, argument

    def response(self, path: str) -> JSONResponse:
        """The answer in the form that its reader knows: MCP's, gradio_client's for arguments, or FastAPI's."""
        if path.startswith(MCP):
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": self.detail}}
            return JSONResponse(error, self.status)
        if self.argument is None:
            return JSONResponse({"detail": self.detail}, self.status)
        told = {"__type__": "validate", "is_valid": False, "parameter_name": self.argument, "message": self.detail}
        return JSONResponse({"error": self.detail, "detail": [told]}, self.status)


def route(scope: Mapping[str, Any]) -> str:
    """The path of a request as Gradio's router sees it, without a slash at its end."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and path.startswith(root + "/"):
        path = path[len(root) :]
    return path.rstrip("/") or "/"


class CloseAddresses:
    """Middleware that answers 404 for every address that neither the page nor a program needs."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["method"], route(scope)):
            return await JSONResponse({"detail": NOT_OPEN}, 404)(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        return await self.app(scope, receive, send)

    @staticmethod
    def _is_open(method: str, path: str) -> bool:
        if method == "OPTIONS":
            return True
        if path == PREFIX or path.startswith(f"{PREFIX}/"):
            allowed = OPEN.get("GET" if method == "HEAD" else method)
            return bool(allowed and allowed.fullmatch(path[len(PREFIX) + 1 :]))
        return method in ("GET", "HEAD") and not CLOSED.fullmatch(path)


class ReadBodies:
    """Middleware that reads a body whole, refuses it where `check` does, and hands it on.

    Args:
        limit: in bytes. Gradio limits uploaded files only.
        check: of a path and what the body says; raises RefusedError. It returns None, or what the body is to say
            instead.
    """

    def __init__(self, app, limit: int, check: Callable[[str, Any], Any]) -> None:
        self.app, self.limit, self.check = app, limit, check

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        path = route(scope)
        try:
            if dict(scope["headers"]).get(b"content-type", b"").startswith(b"multipart/"):
                raise RefusedError(415, "files are not taken; the body must be JSON")
            body = await self._read(scope, receive)
            instead = self.check(path, decoded(body))
            body = body if instead is None else json.dumps(instead).encode()
        except RefusedError as refused:
            return await refused.response(path)(scope, receive, send)
        told = False

        async def replay():
            nonlocal told
            if told:
                return await receive()  # the end of the connection
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, replay, send)

    async def _read(self, scope, receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced[:20]) > self.limit:
            raise RefusedError(413, f"request body too large: {self.limit} bytes are allowed")
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise RefusedError(400, "the request broke off")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limit:
                raise RefusedError(413, f"request body too large: {self.limit} bytes are allowed")
        return bytes(body)


def decoded(body: bytes) -> Any:
    """What a body says in JSON.

    Raises:
        RefusedError: it is not JSON, is nested deeper than MAX_DEPTH, or holds text that is none.
    """
    deep = f"the body is nested too deeply: {MAX_DEPTH} lists or objects inside each other are allowed"
    try:
        value = json.loads(body.decode())
    except RecursionError:
        raise RefusedError(422, deep) from None
    except ValueError:
        raise RefusedError(400, "the body is not JSON in UTF-8") from None
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str) and not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise RefusedError(422, "the body holds half a character: a surrogate without its other half") from None
        elif isinstance(item, dict | list):
            if depth > MAX_DEPTH:
                raise RefusedError(422, deep)
            parts = [*item, *item.values()] if isinstance(item, dict) else item
            waiting.extend((part, depth + 1) for part in parts if isinstance(part, str | list | dict))
    return value


@dataclass(frozen=True)
class Event:
    """What can be asked for through Gradio's queue.

    Args:
        name, endpoint: of a public endpoint; None for an event of the page.
        triggers: ids of the components that send it.
    """

    name: str | None
    endpoint: Endpoint | None
    triggers: Collection[int | None]


def check_body(path: str, body: Any, events: Mapping[int, Event]) -> Any:
    """Refuse what Gradio would stumble over before our code runs.

    Args:
        path: of a POST request.
        body: what its JSON says.
        events: by Gradio's `fn_index`.
    Returns:
        The body with all arguments, if it lacks some that a list may leave out; else None.
    Raises:
        RefusedError: the reason names the field or the argument.
    """
    if path.startswith(MCP):
        return None  # its own library checks the form of a message; `ddpm.ui.tools` reads the arguments
    if not isinstance(body, dict):
        raise RefusedError(422, "the body must be a JSON object")
    rest = path[len(PREFIX) + 1 :]
    if rest.startswith("call/"):
        by_name = {event.name: event.endpoint for event in events.values() if event.endpoint}
        name = rest.rpartition("/")[2]
        endpoint = by_name.get(name)
        if endpoint is None:
            known = ", ".join(f"/{known}" for known in by_name)
            raise RefusedError(404, f"no such endpoint; there are {known}")
        if rest.startswith("call/v2/"):
            _check_arguments(name, endpoint, body)
            return None
        _check_fields(body, {"data": (list, True), "session_hash": (str, False)})
        return _whole(body, _check_arguments(name, endpoint, body["data"]))
    if rest == "queue/join":
        fields = {
            "data": (list, True),
            "session_hash": (str, True),
            "fn_index": (int, True),
            "trigger_id": (int, False),
        }
        _check_fields(body, fields)
        event = events.get(body["fn_index"])
        if event is None:
            raise RefusedError(404, "no such event: fn_index is unknown")
        if body.get("trigger_id") is not None and body["trigger_id"] not in event.triggers:
            raise RefusedError(422, "trigger_id: this component does not send the event")
        if body.get("batched") or body.get("event_id") or body.get("oauth_token"):
            raise RefusedError(422, "batched, event_id and oauth_token must be left out")
        if event.endpoint and event.name:
            return _whole(body, _check_arguments(event.name, event.endpoint, body["data"]))
        if body["data"]:
            raise RefusedError(422, "data: an event of the page takes no values, only event_data")
        if name := _file_in(body.get("event_data"), "event_data"):
            raise RefusedError(422, f"{name}: an object with a path was sent, and the page takes no files")
    elif rest == "component_server":
        _check_fields(body, {"session_hash": (str, True), "component_id": (int, True), "fn_name": (str, True)})
        if "data" not in body:
            raise RefusedError(422, "data is missing")
    elif rest == "cancel":
        _check_fields(body, {"session_hash": (str, True), "fn_index": (int, True), "event_id": (str, True)})
    elif rest == "reset":
        _check_fields(body, {"event_id": (str, True)})
    return None


def _whole(body: dict[str, Any], arguments: list[Any]) -> dict[str, Any] | None:
    """The body with these arguments, or None if it has all of them."""
    return {**body, "data": arguments} if len(body["data"]) < len(arguments) else None


def _file_in(value: Any, name: str) -> str | None:
    """Where in a value Gradio would see a file: an object with a `path`, at any depth. None if there is none."""
    waiting = [(value, name)]
    while waiting:
        item, name = waiting.pop()
        if isinstance(item, dict):
            if "path" in item:
                return name[:MAX_NAME]
            waiting.extend((part, f"{name}.{key}") for key, part in item.items())
        elif isinstance(item, list):
            waiting.extend((part, f"{name}[{i}]") for i, part in enumerate(item) if isinstance(part, dict | list))
    return None


def _check_fields(body: dict[str, Any], fields: Mapping[str, tuple[type, bool]]) -> None:
    """Types of fields, and whether they must be there.

    Raises:
        RefusedError: one is missing or of another type.
    """
    names = {list: "a list", str: f"a text of at most {MAX_NAME} characters", int: "a whole number"}
    for field, (kind, required) in fields.items():
        value = body.get(field)
        if value is None and not required:
            continue
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or (isinstance(value, str) and len(value) > MAX_NAME):
            raise RefusedError(422, f"{field} must be {names[kind]}")


def _check_arguments(name: str, endpoint: Endpoint, sent: object) -> list[Any]:
    """All arguments, in order."""
    try:
        return endpoint.read(name, sent)
    except ArgumentError as refused:
        raise RefusedError(422, str(refused), refused.name) from None


class NoteListeners:
    """Middleware that notes which sessions have a stream of answers open.

    Args:
        listeners: where it notes them.
        session_of: of an event's id, the session that asked for it.
    """

    def __init__(self, app, listeners: Listeners, session_of: Callable[[str], str]) -> None:
        self.app, self.listeners, self.session_of = app, listeners, session_of

    async def __call__(self, scope, receive, send) -> None:
        session = self._session(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if session is None:
            return await self.app(scope, receive, send)
        with self.listeners.listening(session):
            try:
                await self.app(scope, receive, send)
            except (HTTPException, RuntimeError) as error:
                # Gradio begins its answer before it finds out that nobody knows the session, and tells the caller so.
                if not isinstance(error.__cause__ or error, HTTPException):
                    raise
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _session(self, scope) -> str | None:
        path = route(scope)
        if path == f"{PREFIX}/queue/data":
            return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0] or None
        if path.startswith(f"{PREFIX}/call/"):
            return self.session_of(path.rpartition("/")[2])
        return None


class RefuseMalformed:
    """Middleware that answers a malformed request with status 404 or 422 instead of 500 and a traceback in the log.

    Gradio raises such an exception before any code of ours runs, for the name of something that does not exist and for
    arguments that do not fit. Faults of ours do not come here: those of events end in `requests.answered`, those of
    server functions in `gradio.logged`, and Gradio itself logs and answers those of endpoints.

    Args:
        unknown: the exceptions by which Gradio says that something does not exist.
    """

    def __init__(self, app, unknown: tuple[type[Exception], ...] = (LookupError,)) -> None:
        self.app, self.unknown = app, unknown

    async def __call__(self, scope, receive, send) -> None:
        started = False

        async def noted(message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (*self.unknown, TypeError, ValueError) as error:
            if started or scope["type"] != "http":
                raise
            unknown = isinstance(error, self.unknown)
            detail = "no such endpoint, event or component" if unknown else "arguments that do not fit"
            log.warning("refused %s %s: %s", scope["method"], route(scope), first_line(error))
            await JSONResponse({"detail": detail}, 404 if unknown else 422)(scope, receive, send)
