"""Everything on the Python side that touches Gradio's insides. static/ has the same for the browser's side.

The code here relies on undocumented names and habits of Gradio, or works around its defects. The test
tests/ui/test_gradio_python.py checks each of them, and says which one a newer Gradio has moved. `import gradio` is
absolute here as everywhere, so it means Gradio and not this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import ContextVar
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from fastapi import HTTPException
from gradio.context import Context, LocalContext
from gradio.route_utils import FnIndexInferError
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from ddpm.ui import door, tools
from ddpm.ui.endpoints import Endpoint
from ddpm.ui.server.listeners import PATIENCE_S, Listeners
from ddpm.ui.text import say

log = logging.getLogger(__name__)

# ------------------------------------------------------------------------------------------- one page for each model

_named: ContextVar[str | None] = ContextVar("named", default=None)  # the model that the address of a page names


class Versions(gr.Blocks):
    """Blocks of which a visitor gets one of several versions, by `?model=` in the address.

    Gradio sends the description of a page (`config`) with the page itself. All versions consist of the same components
    and events, which belong to these Blocks, so only what the components show differs.

    Args:
        version: of the name in the address, None if there is none: the components of a version as they stand in
            `config`, and the `head` of its page.
    """

    def __init__(self, version: Callable[[str | None], tuple[list[dict[str, Any]], str]], **options: Any) -> None:
        self._version, self._config = version, {}
        super().__init__(**options)

    @property
    def config(self) -> Any:
        """For a request of a page, that of the version that its address asks for."""
        if _named.get() is None:
            return self._config
        components, head = self._version(_named.get() or None)
        return {**self._config, "components": components, "head": head}

    @config.setter
    def config(self, made: Any) -> None:
        self._config = made


@contextlib.contextmanager
def same_components() -> Iterator[Callable[[], None]]:
    """While this lasts, several Blocks can be built whose components have the same ids.

    Yields:
        What to call before each of them.
    """
    first = Context.id

    def again() -> None:
        Context.id = first

    yield again


class NoteModel:
    """Middleware that notes which model the address of a page names."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and door.route(scope) in ("/", "/config"):
            _named.set(parse_qs(scope["query_string"].decode("latin-1")).get("model", [""])[0])
        await self.app(scope, receive, send)


class Traffic:
    """When visitors asked for something last."""

    def __init__(self) -> None:
        self._last: float | None = None

    def note(self) -> None:
        """Somebody asks for something now."""
        self._last = time.monotonic()

    def wait_for_lull(self, first_s: float = 0.5, lull_s: float = 0.4, most_s: float = 3.0) -> None:
        """Wait for a visitor, and then until that one's page is loaded.

        Args:
            first_s: a visitor is waited for so long.
            lull_s: a page is loaded once nothing has been asked for in this time.
            most_s: the wait ends at the latest after this time.
        """
        began, self._last = time.monotonic(), None
        while (now := time.monotonic()) < began + most_s:
            if now > (began + first_s if self._last is None else self._last + lull_s):
                return
            time.sleep(0.02)


traffic = Traffic()


class NoteTraffic:
    """Middleware that tells `traffic` of every request."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            traffic.note()
        await self.app(scope, receive, send)


# ----------------------------------------------------------------------------------------------------- files and fonts

# The bold file of Gradio's default font lacks most letters; the file of weight 700 is complete.
FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700))


def katex_files() -> dict[str, str] | None:
    """The address of the KaTeX that Gradio serves for its Markdown component; None if Gradio keeps it elsewhere."""
    assets = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    found = {kind: next(assets.glob(f"katex-*.{kind}"), None) for kind in ("js", "css")}
    files = {kind: f"assets/{path.name}" for kind, path in found.items() if path}
    return files if len(files) == len(found) else None


# ------------------------------------------------------------------------------------------------------ panels of HTML


def live_html(
    html: str,
    script: str,
    server_functions: Sequence[Callable[[Any], Any]] = (),
    there: Callable[[], bool] = lambda: True,
    **options: Any,
) -> gr.HTML:
    """A gr.HTML that its script brings to life, and whose contents stay as they are while its value changes.

    They stay because the template does not mention the value.

    Args:
        html: Gradio evaluates it as a JavaScript template string: no backslash, backtick or dollar brace may be in it.
        script: JavaScript. Event names that stand in quotes there can be listened to.
        server_functions: that the script can call, each with one argument. Gradio calls them outside its queue, in any
            of its threads, and anybody can: they may only look things up.
        there: whether they can be answered already; each call waits until then, and takes no thread meanwhile.
        options: for gr.HTML; those it does not know reach the script as `props`.
    """
    return gr.HTML(
        None,
        html_template=html,
        js_on_load=script,
        apply_default_css=False,
        padding=False,
        server_functions=[logged(function, there) for function in server_functions] or None,
        **options,
    )


def logged(function: Callable[[Any], Any], there: Callable[[], bool] = lambda: True) -> Callable[[Any], Any]:
    """A server function whose faults are logged, and answered with status 500 and no details.

    Args:
        there: see `live_html`.

    Without it `RefuseMalformed` would take a LookupError, TypeError or ValueError of ours for a malformed request.
    """

    @wraps(function)
    async def answer(asked: Any) -> Any:
        while not there():
            await asyncio.sleep(0.05)
        try:
            return await run_in_threadpool(function, asked)
        except Exception:
            log.exception("the look-up %s failed", function.__name__)
            raise HTTPException(500, "the server could not answer") from None

    return answer


def stream(
    panel: gr.HTML,
    event: str,
    answer: Callable[[object], Iterator[dict[str, Any]]],
    concurrency_limit: int,
    concurrency_id: str,
) -> None:
    """Answer an event of a panel with the messages of `answer`, which gets what the browser sent with the event.

    The work ends once nobody listens. Whoever takes messages more slowly than they are made misses some of the frames
    after the first, so that the others do not pile up.

    Args:
        concurrency_limit: how many events of one `concurrency_id` are answered at the same time.
    """

    def answer_event(sent: gr.EventData):
        asked, messages = _Asked(PATIENCE_S), answer(sent._data)
        try:
            for message in messages:
                if asked.in_vain():
                    return
                may_be_missed = message.get("kind") == "frame" and message.get("step") != 1
                if not may_be_missed or asked.unread() <= MAX_UNREAD:
                    yield message
        finally:
            if isinstance(messages, Generator):
                messages.close()  # so that the work stops when this generator is closed

    getattr(panel, event)(
        answer_event,
        None,
        panel,
        concurrency_id=concurrency_id,
        concurrency_limit=concurrency_limit,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="multiple",
    )


# ----------------------------------------------------------------------------------------------------------- who asks

MAX_UNREAD = 2  # frames that wait for a slow connection
MAX_UNCLAIMED = 64  # sessions whose answers nobody has fetched yet

listeners = Listeners()


class _Asked:
    """The event that Gradio answers in this thread. To be made in the thread, before the first answer.

    Args:
        patience_s: a caller who does not listen yet is waited for so long.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._queue = LocalContext.blocks.get()._queue  # pyright: ignore
        self._event = self._queue.event_ids_to_events.get(LocalContext.event_id.get(None) or "")

    def in_vain(self) -> bool:
        """Whether the caller went away, or has not listened for a while since asking."""
        event = self._event
        if event is None:  # Gradio has forgotten it
            return True
        waited = time.monotonic() - event.enqueue_time
        return not event.alive or (waited > self._patience_s and not listeners.hear(event.session_hash))

    def unread(self) -> int:
        """How many messages wait for this caller."""
        messages = self._event and self._queue.pending_messages_per_session.get(self._event.session_hash)
        return messages.qsize() if messages else 0


def _session_of(blocks: gr.Blocks, event_id: str) -> str:
    """The session that an event belongs to. By itself, a call by plain HTTP is a session of its own."""
    event = blocks._queue.event_ids_to_events.get(event_id)
    return event.session_hash if event else event_id


def _forget_unclaimed(blocks: gr.Blocks) -> None:
    """Drop the oldest answers that nobody fetches. Gradio keeps those of 2,000 sessions, whatever their size."""
    queue = blocks._queue
    at_work = {event.session_hash for event in queue.event_ids_to_events.values()}
    idle = [name for name in queue.pending_messages_per_session if name not in at_work and not listeners.hear(name)]
    for name in idle[:-MAX_UNCLAIMED]:
        queue.pending_messages_per_session.pop(name, None)
    known = queue.pending_messages_per_session.keys() | at_work
    for name in queue.pending_event_ids_session.keys() - known:
        queue.pending_event_ids_session.pop(name, None)


def _cancel(blocks: gr.Blocks, event_id: str, session: str) -> None:
    """End the work for an event within a call of the network; Gradio itself waits until a function has returned."""
    event = blocks._queue.event_ids_to_events.get(event_id)
    if event and event.session_hash == session:
        event.alive = False


# ---------------------------------------------------------------------------------------------------- public endpoints


def add_endpoint(blocks: gr.Blocks, name: str, do: Callable[..., dict[str, Any]], endpoint: Endpoint) -> None:
    """Add a public endpoint to Blocks that are being built.

    Gradio describes an endpoint by the name, the signature and the docstring of a function. Ranges and the shape of the
    answer fit into neither; they are added to the schemas of Gradio's components.

    Args:
        do: answers a call; it gets the arguments of `endpoint`, all of them and by name, and `in_vain`, which says
            whether nobody waits for the answer any more.
    """

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(argument, kind, default=given.default, annotation=given.type)
        for argument, given in endpoint.arguments.items()
    ]
    signature = inspect.Signature(parameters, return_annotation=dict)

    def function(*args: Any, **kwargs: Any) -> dict[str, Any]:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        asked = _Asked(PATIENCE_S)
        if asked.in_vain():
            raise gr.Error(say("refused.unheard", limit=PATIENCE_S), print_exception=False)
        return do(**given.arguments, in_vain=asked.in_vain)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = endpoint.docstring
    function.__annotations__ = {argument: given.type for argument, given in endpoint.arguments.items()}
    function.__signature__ = signature
    function.endpoint = endpoint
    made = gr.api(function, concurrency_id=endpoint.concurrency_id, concurrency_limit=endpoint.concurrency_limit)
    components: Any = blocks.fns[made["id"]]
    for component, (argument, given) in zip(components.inputs, endpoint.arguments.items(), strict=True):
        component.label = argument
        if given.range:
            component._api_info |= dict(zip(("minimum", "maximum"), given.range, strict=True))
        component._api_info |= {"additional_description": given.meaning}
    (returned,) = components.outputs
    returned.label = "answer"
    returned._api_info = {
        "type": "object",
        "properties": dict(endpoint.schema),
        "additional_description": endpoint.answer,
    }


# ----------------------------------------------------------------------------------------------------------- the server


def endpoints_of(blocks: gr.Blocks) -> dict[int, tuple[str, Endpoint]]:
    """Name and description of each public endpoint of a page, by Gradio's `fn_index`."""
    return {
        index: (str(function.api_name), endpoint)
        for index, function in blocks.fns.items()
        if (endpoint := getattr(function.fn, "endpoint", None))
    }


def _events_of(blocks: gr.Blocks) -> dict[int, door.Event]:
    """What can be asked for through the queue, by `fn_index`. Events that only the browser handles are not in it."""
    endpoints = endpoints_of(blocks)
    return {
        index: door.Event(*endpoints.get(index, (None, None)), triggers={t[0] for t in function.targets})
        for index, function in blocks.fns.items()
        if function.fn is not None
    }


def queued(blocks: gr.Blocks, max_size: int) -> gr.Blocks:
    """The page with a queue that nobody can pass by, for so many requests.

    With an open API, requests to /run and /api would be computed beside the queue, as many as come.
    """
    blocks.queue(api_open=False, max_size=max_size, default_concurrency_limit=1)
    # Gradio keeps a record of the last 10,000 events, and sums all of them up after each event.
    blocks._queue.ANALYTICS_MAX_EVENTS, blocks._queue.ANAYLTICS_CACHE_FREQUENCY = 1, 2**62
    return blocks


def wait_for_answers(blocks: gr.Blocks, most_s: float = 1.0) -> None:
    """Wait until no event is under way, so that every stream has ended. Closing the page waits for them for 5 s, and
    they end no more once its queue is closed.

    Args:
        most_s: the wait ends at the latest after this time.
    """
    end = time.monotonic() + most_s
    while blocks._queue.event_ids_to_events and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.1)  # the last messages are on their way


def launch_options(blocks: gr.Blocks, max_body_bytes: int) -> dict[str, Any]:
    """Options of `Blocks.launch` that bound what visitors can take up, and work around what Gradio does by default.

    Args:
        blocks: the page that is launched with them, complete.
        max_body_bytes: of a request.
    """
    events = _events_of(blocks)

    def check(path: str, body: Any) -> Any:
        instead = door.check_body(path, body, events)
        if path == f"{door.PREFIX}/cancel":
            _cancel(blocks, body["event_id"], body["session_hash"])
        elif path.startswith((f"{door.PREFIX}/call/", f"{door.PREFIX}/queue/")):
            _forget_unclaimed(blocks)
        return instead

    @contextlib.asynccontextmanager
    async def lifespan(_: object):
        if blocks.mcp_server_obj:
            tools.replace_answers(blocks, endpoints_of(blocks))
        yield

    middleware = [
        Middleware(NoteTraffic),
        Middleware(door.CloseAddresses),
        Middleware(NoteModel),
        Middleware(door.ReadBodies, limit=max_body_bytes, check=check),
        Middleware(GZipMiddleware, minimum_size=2048, compresslevel=6),  # Gradio compresses its files, not the page
        Middleware(door.NoteListeners, listeners=listeners, session_of=lambda event: _session_of(blocks, event)),
        Middleware(door.RefuseMalformed, unknown=(FnIndexInferError, LookupError)),
    ]
    return {
        "ssr_mode": False,  # server-side rendering needs Node and fetches twice as many files
        "run_history": False,  # else the browser stores all calls, and every later event takes up to a second
        "state_session_capacity": 128,  # else the latest outputs of 10,000 sessions are kept in memory
        "strict_cors": True,
        "show_error": False,  # else visitors read the text of our exceptions
        "pwa": False,
        "footer_links": ["api", "settings"],
        "mcp_server": find_spec("mcp") is not None,  # an extra of Gradio
        "app_kwargs": {"middleware": middleware, "lifespan": lifespan},
    }
