"""Command lines made of dataclasses: options in groups, flags laid over defaults, errors in one line.

A command line is a dataclass whose fields are the groups of options, each a dataclass itself; the comment above an
option is its text in `--help`. This module loads nothing heavy, so that `--help` and wrong usage are answered at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
import sys
from collections.abc import Iterator
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def need_option(options: Any, ok: bool, name: str, accepted: str) -> None:
    """Reject an option's value.

    Raises:
        ValueError: `ok` is false; the message names the flag, its value, and what is accepted.
    """
    if not ok:
        raise ValueError(f"--{name} {getattr(options, name)!s}: {accepted} is needed")


@contextlib.contextmanager
def usage_errors(prog: str) -> Iterator[None]:
    """Turn a ValueError into one line on stderr and exit status 2."""
    try:
        yield
    except ValueError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def grouped(kind: type[T], options: Any) -> T:
    """Distribute the attributes of a flat dataclass over its groups.

    Args:
        kind: dataclass of groups. An option that `options` lacks gets its default.
    """
    groups = {}
    for name, group in get_type_hints(kind).items():
        known = [field.name for field in dataclasses.fields(group) if hasattr(options, field.name)]
        groups[name] = group(**{option: getattr(options, option) for option in known})
    return kind(**groups)


def flattened(groups: Any) -> dict[str, Any]:
    """The options of all groups by name; the reverse of `grouped`."""
    return {name: value for group in vars(groups).values() for name, value in vars(group).items()}


def parse_flags(argv: list[str], defaults: T, prog: str) -> T:
    """Lay flags over `defaults`, a dataclass of groups. `--help` prints all options by group and exits with status 0.

    Raises:
        ValueError: in one line which word is wrong, and what would be right.
    """
    import tyro

    # Both `--max_train_steps` and `--max-train-steps` are understood; `--help` shows the former, as the READMEs do.
    options: dict[str, Any] = {"args": argv, "prog": prog, "default": defaults, "use_underscores": True}
    options["config"] = (tyro.conf.OmitArgPrefixes,)
    try:
        from tyro import _errors  # tyro has no public way to learn what was wrong
    except ImportError:  # another version of tyro: it prints its own message and exits with status 2
        return tyro.cli(type(defaults), **options)
    names = list(flattened(defaults))

    def reject(event: Any) -> None:
        if isinstance(event, _errors.UnrecognizedArgs):
            raise ValueError(_unknown(event.tokens, names))
        argument = getattr(event, "argument", None)
        if argument is None:
            return  # then tyro itself prints what it knows and exits with status 2
        flag = f"--{argument.field.intern_name}"
        if isinstance(event, _errors.InvalidChoice):
            raise ValueError(f"{flag} {event.value!r}: one of {', '.join(event.choices)} is needed")
        if isinstance(event, _errors.BadValue):
            raise ValueError(f"{flag}: a value is needed, {_accepted(argument)}")
        if isinstance(event, _errors.InstantiationFailure):
            raise ValueError(f"{flag}: {_reason(event.message)} (expected {_accepted(argument)})")

    with _errors.on_parse_error(reject):
        return tyro.cli(type(defaults), **options)


def _accepted(argument: Any) -> str:
    """The kind of value that an option takes, as `--help` shows it: "INT" for `int | None`."""
    return str(argument.lowered.metavar).removeprefix("{None}|")


def _reason(message: str) -> str:
    """Why a word is no value of an option, in one line.

    Python's and tyro's messages quote the word; of `int | None`, tyro adds a line for every type that it tried.
    """
    quoted = re.search(r"'.*?'", message)
    return f"{quoted[0]} is not valid" if quoted else message.splitlines()[0]


def _unknown(words: list[str], names: list[str]) -> str:
    """What to say about words that no option takes: the first flag among them, with the nearest one that exists."""
    word = next((word for word in words if word.startswith("--")), None)
    if word is None:
        return f"unexpected argument {words[0]!r}; see --help"
    near = difflib.get_close_matches(word[2:].split("=", 1)[0].replace("-", "_"), names, 1)
    return f"unknown option {word}" + (f"; did you mean --{near[0]}?" if near else "; see --help")
