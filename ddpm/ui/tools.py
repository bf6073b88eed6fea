"""The public endpoints as MCP tools. Gradio's own answers are texts of Python; these are JSON, with pictures as PNG."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from ddpm.ui.endpoints import ArgumentError, Endpoint

PROGRESS_S = 5.0  # between two words to a client that wants to hear of the progress; many give up after silence
HOST = "http://127.0.0.1"  # for the headers of calls that never leave the process


def replace_answers(blocks: Any, endpoints: Mapping[int, tuple[str, Endpoint]]) -> None:
    """Have MCP calls of a page answered here, before the first one comes.

    Args:
        blocks: the page (gr.Blocks), whose MCP server is there.
        endpoints: name and description of each, by Gradio's `fn_index`.
    """
    served, by_name = blocks.mcp_server_obj, dict(endpoints.values())
    transport = httpx.ASGITransport(app=blocks.app)
    schema_by_gradio = served.get_input_schema

    def endpoint_of(tool: str) -> tuple[str, Endpoint]:
        """Name and description; on a Space, names of tools begin with that of the Space."""
        name = served.tool_to_endpoint[tool].lstrip("/")
        return name, by_name[name]

    def get_input_schema(tool: str, *described: Any) -> tuple[dict[str, Any], list]:
        schema, files = schema_by_gradio(tool, *described)
        schema["additionalProperties"] = False
        if whole := endpoint_of(tool)[1].tool.whole:
            name, meaning = whole
            schema["properties"][name] = {"type": "boolean", "default": False, "description": meaning}
        return schema, files

    async def call_tool(tool: str, arguments: dict[str, Any]) -> Any:
        chosen = served.get_selected_tools_from_request()
        if tool not in served.tool_to_endpoint or (chosen is not None and tool not in chosen):
            raise ValueError(f"no such tool; there are {', '.join(chosen or served.tool_to_endpoint)}")
        name, endpoint = endpoint_of(tool)
        whole = _take_whole(arguments, endpoint)
        async with _telling_progress(served.mcp_server.request_context):
            answer = await _call(transport, name, endpoint.read(name, arguments))
        return _result(answer, endpoint, whole)

    # MCP's library logs each malformed message with a hundred lines about what it could have been.
    logging.getLogger().addFilter(_in_short)
    served.get_input_schema = get_input_schema
    # Without the check by schema: what is out of range is refused by the endpoint, which names the argument.
    served.mcp_server.call_tool(validate_input=False)(call_tool)


def _in_short(record: logging.LogRecord) -> bool:
    """Cut what is logged without a logger of its own, as MCP's library does, to one line."""
    record.msg, record.args = record.getMessage().split("\n", 1)[0], ()
    return True


def _take_whole(arguments: dict[str, Any], endpoint: Endpoint) -> bool:
    """Take the argument that only the tool has from the arguments: whether the answer is wanted whole.

    Raises:
        ArgumentError: it is neither true nor false.
    """
    if endpoint.tool.whole is None:
        return True
    name, _ = endpoint.tool.whole
    whole = arguments.pop(name, False)
    if not isinstance(whole, bool):
        raise ArgumentError(name, f"{name}: true or false is needed")
    return whole


@contextlib.asynccontextmanager
async def _telling_progress(context: Any) -> AsyncIterator[None]:
    """While this lasts, tell a client that asked for it every few seconds that the server is at work."""
    token = context.meta and context.meta.progressToken

    async def tell() -> None:
        for told in range(1, 10**6):
            await asyncio.sleep(PROGRESS_S)
            await context.session.send_progress_notification(
                progress_token=token,
                progress=told,
                message=f"queued or at work for {told * PROGRESS_S:.0f} s",
                related_request_id=str(context.request_id),
            )

    telling = asyncio.create_task(tell()) if token is not None else None
    try:
        yield
    finally:
        if telling:
            telling.cancel()


async def _call(transport: httpx.AsyncBaseTransport, name: str, arguments: list[Any]) -> dict[str, Any]:
    """Call an endpoint as a program does by plain HTTP, so that it takes its turn in the queue.

    When the caller goes away, this is cancelled; its stream ends with it, and so does the work.

    Raises:
        ValueError: the endpoint refused; the message is one line.
    """
    async with httpx.AsyncClient(transport=transport, base_url=HOST, timeout=None) as client:
        asked = await client.post(f"/gradio_api/call/{name}", json={"data": arguments})
        told = asked.json()
        if asked.status_code != 200:
            raise ValueError(told.get("error") or told["detail"])
        stream = await client.get(f"/gradio_api/call/{name}/{told['event_id']}")
    kind, data = stream.text.strip().split("\n\n")[-1].split("\n", 1)
    answer = json.loads(data.removeprefix("data: "))
    if kind != "event: complete":
        refusal = answer.get("error") if isinstance(answer, dict) else answer
        raise ValueError(refusal or "the server could not answer")
    return answer[0]


def _result(answer: dict[str, Any], endpoint: Endpoint, whole: bool) -> Any:
    """The answer as MCP has it: JSON, both structured and as text, and a picture of it if there is one."""
    from mcp import types  # an extra of Gradio

    form = endpoint.tool
    content: list[Any] = []
    if form.picture:
        content.append(types.ImageContent(type="image", data=form.picture(answer), mimeType="image/png"))
    if form.summary and not whole:
        answer = form.summary(answer)
    content.append(types.TextContent(type="text", text=json.dumps(answer)))
    return types.CallToolResult(content=content, structuredContent=answer)
