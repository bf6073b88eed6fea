"""Everything on the Python side that touches Gradio's insides. static/ has the same for the browser's side.

The code here relies on undocumented names and habits of Gradio, or works around its defects. The test
tests/ui/test_gradio_python.py checks each of them, and says which one a newer Gradio has moved. `import gradio` is
absolute here as everywhere, so it means Gradio and not this module.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException
from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse

from ddpm.errors import first_line

log = logging.getLogger(__name__)

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


def live_html(html: str, script: str, server_functions: Sequence[Callable[[Any], Any]] = (), **options: Any) -> gr.HTML:
    """A gr.HTML that its script brings to life, and whose contents stay as they are while its value changes.

    They stay because the template does not mention the value.

    Args:
        html: Gradio evaluates it as a JavaScript template string: no backslash, backtick or dollar brace may be in it.
        script: JavaScript. Event names that stand in quotes there can be listened to.
        server_functions: that the script can call, each with one argument. Gradio calls them outside its queue, in any
            of its threads, and anybody can: they may only look things up.
        options: for gr.HTML; those it does not know reach the script as `props`.
    """
    return gr.HTML(
        None,
        html_template=html,
        js_on_load=script,
        apply_default_css=False,
        padding=False,
        server_functions=[logged(function) for function in server_functions] or None,
        **options,
    )


def logged(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A server function whose faults are logged, and answered with status 500 and no details.

    Without it `RefuseMalformed` would take a LookupError, TypeError or ValueError of ours for a malformed request.
    """

    @wraps(function)
    def answer(asked: Any) -> Any:
        try:
            return function(asked)
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

    Args:
        concurrency_limit: how many events of one `concurrency_id` are answered at the same time.
    """

    def answer_event(sent: gr.EventData):
        yield from answer(sent._data)

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


# ---------------------------------------------------------------------------------------------------- public endpoints


@dataclass(frozen=True)
class Argument:
    """An argument of an endpoint.

    Args:
        type: its Python type, from which Gradio makes a JSON schema.
        meaning: one line for people.
        default: its value if it is left out; `inspect.Parameter.empty` if it must be given.
        range: the lowest and the highest number, which a type cannot state.
    """

    type: Any
    meaning: str
    default: Any = inspect.Parameter.empty
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Endpoint:
    """The description of an endpoint, which is a promise to other people's programs.

    Args:
        what: it does, in one or two sentences.
        arguments: by name, in the order in which plain HTTP lists them.
        answer: what is in the answer.
        schema: the JSON schema of each field of the answer, which Gradio cannot read from a type.
        concurrency_id, concurrency_limit: so many calls of all endpoints with this id are answered at the same time.
    """

    what: str
    arguments: Mapping[str, Argument]
    answer: str
    schema: Mapping[str, Mapping[str, Any]]
    concurrency_id: str
    concurrency_limit: int

    @property
    def docstring(self) -> str:
        """In the form that Gradio parses."""
        described = "\n".join(f"    {name}: {argument.meaning}" for name, argument in self.arguments.items())
        return f"{self.what}\n\nArgs:\n{described}\n\nReturns:\n    {self.answer}"


def add_endpoint(blocks: gr.Blocks, name: str, do: Callable[..., dict[str, Any]], endpoint: Endpoint) -> None:
    """Add a public endpoint to Blocks that are being built.

    Gradio describes an endpoint by the name, the signature and the docstring of a function. Ranges and the shape of the
    answer fit into neither; they are added to the schemas of Gradio's components.

    Args:
        do: answers a call; it gets the arguments of `endpoint`, all of them and by name.
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
        return do(**given.arguments)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = endpoint.docstring
    function.__annotations__ = {argument: given.type for argument, given in endpoint.arguments.items()}
    function.__signature__ = signature
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


class LimitBody:
    """Middleware that refuses a request body over `limit` bytes before Gradio reads it.

    Gradio limits uploaded files only, and reads the whole body first.
    """

    def __init__(self, app, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT"):
            return await self.app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.limit:
            return await JSONResponse({"detail": "request body too large"}, 413)(scope, receive, send)
        received = 0

        async def counted():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise RuntimeError("request body too large")
            return message

        return await self.app(scope, counted, send)


class RefuseMalformed:
    """Middleware that answers a malformed request with status 404 or 422 instead of 500 and a traceback in the log.

    Gradio raises such an exception before any code of ours runs, for the name of something that does not exist and for
    arguments that do not fit. Faults of ours do not come here: those of events end in `requests.answered`, those of
    server functions in `logged`, and Gradio itself logs and answers those of endpoints.
    """

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        started = False

        async def noted(message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (FnIndexInferError, LookupError, TypeError, ValueError) as error:
            if started or scope["type"] != "http":
                raise
            unknown = isinstance(error, FnIndexInferError | LookupError)
            detail = "no such endpoint, event or component" if unknown else "arguments that do not fit"
            log.warning("refused %s %s: %s", scope["method"], scope["path"], first_line(error))
            await JSONResponse({"detail": detail}, 404 if unknown else 422)(scope, receive, send)


def launch_options(max_body_bytes: int) -> dict[str, Any]:
    """Options of `Blocks.launch` that bound what visitors can take up, and work around what Gradio does by default."""
    middleware = [
        Middleware(LimitBody, limit=max_body_bytes),
        Middleware(GZipMiddleware, minimum_size=2048, compresslevel=6),  # Gradio compresses its files, not the page
        Middleware(RefuseMalformed),
    ]
    return {
        "ssr_mode": False,  # server-side rendering needs Node and fetches twice as many files
        "run_history": False,  # else the browser stores all calls, and every later event takes up to a second
        "state_session_capacity": 128,  # else the latest outputs of 10,000 sessions are kept in memory
        "max_file_size": "1mb",  # anybody can upload files, although nothing on the page does
        "strict_cors": True,
        "show_error": False,  # else visitors read the text of our exceptions
        "pwa": False,
        "footer_links": ["api", "settings"],
        "mcp_server": find_spec("mcp") is not None,  # an extra of Gradio
        "app_kwargs": {"middleware": middleware},
    }
