"""Command lines made of dataclasses: options in groups, flags laid over defaults, errors in one line.

A command line is a dataclass whose fields are the groups of options, each a dataclass itself; the comment above an
option is its text in `--help`. This module loads nothing heavy, so that `--help` and wrong usage are answered at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

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


def at_home(path: str) -> str:
    """A path with `~` replaced by the home folder. Shells do that themselves, but not in `--flag=~/folder`.

    Raises:
        ValueError: there is no such user.
    """
    if not path.startswith("~"):
        return path
    found = os.path.expanduser(path)
    if found == path:
        raise ValueError(
            f"{path}: there is no user {path.split('/')[0][1:]}; for a folder of this name, write ./{path}"
        )
    return found


def need_folder(options: Any, name: str, folder: Path) -> None:
    """Reject a folder that can be neither made nor written to. Nothing is made here.

    Args:
        name: the option that names the folder, or a file in it.
    Raises:
        ValueError: the message names the flag, its value, and what is in the way.
    """
    flag = f"--{name} {getattr(options, name) or folder}"
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
        os.lstat(folder)  # raises if the name itself is impossible
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise ValueError(f"{flag}: {getattr(error, 'strerror', None) or error}") from None
    if not there.is_dir():
        raise ValueError(f"{flag}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{flag}: {there} cannot be written to")


def check_type(hint: Any, value: Any) -> Any:
    """A value of a JSON file as an option of type `hint`: whole numbers become floats and lists tuples where needed.

    Raises:
        ValueError: the value is of another type; the message says what is accepted.
    """
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _optional(hint) else [hint]
    if value is None and _optional(hint):
        return None
    if len(kinds) > 1:  # int or str
        if type(value) in kinds:
            return value
        raise ValueError(" or ".join(map(_described, kinds)) + f"{' or null' if _optional(hint) else ''} is needed")
    (kind,) = kinds
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        items = get_args(kind)
        items = items[:1] * len(value) if items[-1] is Ellipsis else items
        if len(items) == len(value) and all(_fits(item, part) for item, part in zip(items, value, strict=True)):
            return tuple(item(part) for item, part in zip(items, value, strict=True))
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if type(value) is kind or (kind is float and type(value) is int):
        plain: Any = value
        return float(plain) if kind is float else plain
    raise ValueError(f"{_described(kind)}{' or null' if _optional(hint) else ''} is needed")


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a plain type; a whole number is a number, too."""
    return type(value) is kind or (kind is float and type(value) is int)


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _described(kind: Any) -> str:
    """What a type accepts, in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        items = get_args(kind)
        return "a list of whole numbers" if items[-1] is Ellipsis else f"a list of {len(items)} numbers"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return words[kind]


def parse_flags(argv: list[str], defaults: T, prog: str) -> T:
    """Lay flags over `defaults`, a dataclass of groups. `--help` prints all options by group and exits with status 0.

    Raises:
        ValueError: in one line which word is wrong, and what would be right.
    """
    import tyro

    for before, word in zip(["", *argv], argv, strict=False):
        name = before if not word else word[:-1] if word.startswith("--") and word.endswith("=") else ""
        if name.startswith("--") and name != "--label":  # an unset variable of a shell; "" is the label "none"
            raise ValueError(f"{name}: the value is empty; give one, or leave the flag out")
    # Both `--max_train_steps` and `--max-train-steps` are understood; `--help` shows the former, as the READMEs do.
    options: dict[str, Any] = {"args": argv, "prog": prog, "default": defaults, "use_underscores": True}
    options |= {"config": (tyro.conf.OmitArgPrefixes,), "registry": _registry()}
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
            choices = _accepted(argument).strip("{}").replace(",", ", ")
            raise ValueError(f"{flag} {event.value!r}: one of {choices} is needed")
        if isinstance(event, _errors.BadValue):
            raise ValueError(f"{flag}: a value is needed, {_accepted(argument)}")
        if isinstance(event, _errors.InstantiationFailure):
            raise ValueError(f"{flag}: {_reason(event.message)} (expected {_accepted(argument)})")

    with _errors.on_parse_error(reject):
        parsed = tyro.cli(type(defaults), **options)
    return type(defaults)(**{name: _group_at_home(group) for name, group in vars(parsed).items()})


def _group_at_home(group: Any) -> Any:
    """A group of options with `~` replaced in every path. No other option begins with it."""
    changed = {}
    for name, value in vars(group).items():
        if isinstance(value, str | Path) and str(value).startswith("~"):
            try:
                changed[name] = type(value)(at_home(str(value)))
            except ValueError as error:
                raise ValueError(f"--{name} {error}") from None
    return dataclasses.replace(group, **changed)


def _registry() -> Any:
    """How tyro shows options: "PATH" instead of "{None}|PATH", and a default only if it says more than the text."""
    import tyro

    registry, inside = tyro.constructors.ConstructorRegistry(), set()

    @registry.struct_rule
    def group(info: Any) -> Any:
        if not dataclasses.is_dataclass(info.type) or info.type in inside:
            return None
        inside.add(info.type)  # tyro's own rule answers
        try:
            made: Any = tyro.constructors.ConstructorRegistry.get_struct_spec(info)
        finally:
            inside.discard(info.type)
        fields = tuple(_shown(field) for field in made.fields)
        return dataclasses.replace(made, fields=fields)

    return registry


def _shown(field: Any) -> Any:
    """A field as `--help` shows it."""
    import tyro

    if dataclasses.is_dataclass(field.type):
        return field
    about: dict[str, Any] = {"help_behavior_hint": lambda label: "" if field.default is None else _default(label)}
    if _optional(field.type):
        kind, *others = [kind for kind in get_args(field.type) if kind is not type(None)]
        choices = get_origin(kind) is Literal and f"{{{','.join(map(str, get_args(kind)))}}}"
        about["metavar"] = choices or "|".join(map(_metavar, (kind, *others)))
    text = field.helptext
    if field.default is not None and callable(text):  # what the text calls the default is not in force
        text = lambda: re.sub(r"\s*Default: .*", "", field.helptext() or "", flags=re.DOTALL)  # noqa: E731
    return dataclasses.replace(field, type=Annotated[field.type, tyro.conf.arg(**about)], helptext=text)


def _metavar(kind: Any) -> str:
    """A type as `--help` shows it: "INT", "FLOAT FLOAT" for a pair, "FLOAT [FLOAT ...]" for one or more."""
    if get_origin(kind) is not tuple:
        return kind.__name__.upper()
    first, *others = get_args(kind)
    name = _metavar(first)
    return f"{name} [{name} ...]" if others == [...] else " ".join([name] * (1 + len(others)))


def _default(label: str) -> str:
    return f"(default: {label or 'none'})"


def _accepted(argument: Any) -> str:
    """The kind of value that an option takes, as `--help` shows it: "INT" for `int | None`."""
    return str(argument.lowered.metavar)


def _reason(message: str) -> str:
    """Why a word is no value of an option, in one line.

    Python's and tyro's messages quote the word; of `int | None`, tyro adds a line for every type that it tried.
    """
    quoted = re.search(r"'.*?'", message)
    return f"{quoted[0]} is not valid" if quoted else message.splitlines()[0]


def _unknown(words: list[str], names: list[str]) -> str:
    """What to say about words that no option takes: the first flag among them, with the nearest one that exists."""
    word = next((word for word in words if word.startswith("--")), None)
    if word is None and words[0].lower() in ("true", "false", "yes", "no", "on", "off"):
        return f"unexpected argument {words[0]!r}: --flag turns something on and --no_flag off, without a value"
    if word is None:
        return f"unexpected argument {words[0]!r}; see --help"
    near = difflib.get_close_matches(word[2:].split("=", 1)[0].replace("-", "_"), names, 1)
    return f"unknown option {word}" + (f"; did you mean --{near[0]}?" if near else "; see --help")
