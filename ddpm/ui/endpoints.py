"""What a public endpoint is: its description, and its arguments read from what a program sent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

REQUIRED = inspect.Parameter.empty


class ArgumentError(ValueError):
    """An argument that is missing, unknown or unreadable. The message is for people; `name` is the argument's name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Argument:
    """An argument of an endpoint.

    Args:
        type: its Python type, from which Gradio makes a JSON schema.
        meaning: one line for people.
        default: its value if it is left out; `REQUIRED` if it must be given.
        range: the lowest and the highest number, which a type cannot state.
        late: it was added once programs existed that send all arguments in a list, so a list may end before it.
    """

    type: Any
    meaning: str
    default: Any = REQUIRED
    range: tuple[float, float] | None = None
    late: bool = False


@dataclass(frozen=True)
class ToolForm:
    """How MCP answers a call, where that differs from the plain answer.

    Args:
        picture: the PNG, in base64, that shows an answer.
        summary: a short form of an answer. A tool returns it unless its argument `whole` is true.
        whole: name and meaning of that argument.
    """

    picture: Callable[[dict[str, Any]], str] | None = None
    summary: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    whole: tuple[str, str] | None = None


@dataclass(frozen=True)
class Endpoint:
    """The description of an endpoint, which is a promise to other people's programs.

    Args:
        what: it does, in one or two sentences.
        arguments: by name, in the order in which plain HTTP lists them.
        answer: what is in the answer.
        schema: the JSON schema of each field of the answer, which Gradio cannot read from a type.
        concurrency_id, concurrency_limit: so many calls of all endpoints with this id are answered at the same time.
        tool: how MCP answers.
    """

    what: str
    arguments: Mapping[str, Argument]
    answer: str
    schema: Mapping[str, Mapping[str, Any]]
    concurrency_id: str
    concurrency_limit: int
    tool: ToolForm = ToolForm()

    @property
    def docstring(self) -> str:
        """In the form that Gradio parses."""
        described = "\n".join(f"    {name}: {argument.meaning}" for name, argument in self.arguments.items())
        return f"{self.what}\n\nArgs:\n{described}\n\nReturns:\n    {self.answer}"

    def read(self, name: str, sent: object) -> list[Any]:
        """All arguments in order, from a list of all of them or from some by name.

        Only what Gradio itself would stumble over is refused here; the values are checked when the endpoint is called.

        Args:
            name: of the endpoint, for messages.
        Raises:
            ArgumentError: one is missing, unknown, or holds an object, as no argument does.
        """
        names = list(self.arguments)
        takes = f"/{name} takes {', '.join(names)}"
        if isinstance(sent, dict):
            for given in sent:
                if given not in self.arguments:
                    raise ArgumentError(_quoted(given), f"{_quoted(given)} is not an argument: {takes}")
            by_name = dict(sent)
        elif isinstance(sent, list):
            if len(sent) > len(names):
                message = f"{len(sent)} values came, and {takes}"
                raise ArgumentError(names[-1], message)
            by_name = dict(zip(names, sent, strict=False))
        else:
            raise ArgumentError(names[0], f"the arguments must be a list, or an object with their names: {takes}")
        for missing, argument in self.arguments.items():
            # A list holds all arguments, since that is what Gradio promises about it.
            needed = argument.default is REQUIRED or (isinstance(sent, list) and not argument.late)
            if missing not in by_name and needed:
                raise ArgumentError(missing, f"{missing} is missing: {takes}. {missing}: {argument.meaning}")
        for given, value in by_name.items():
            if holds_object(value):
                needed = self.arguments[given].meaning
                raise ArgumentError(given, f"{given}: an object was sent, but this is needed: {needed}")
        return [by_name.get(name, argument.default) for name, argument in self.arguments.items()]


def _quoted(name: object) -> str:
    """A name that somebody sent, cut to a readable length."""
    shown = str(name)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def holds_object(value: object) -> bool:
    """Whether a JSON object is anywhere in a value. Gradio takes some objects for files, at any depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            return True
        if isinstance(item, list):
            waiting.extend(part for part in item if isinstance(part, list | dict))
    return False
