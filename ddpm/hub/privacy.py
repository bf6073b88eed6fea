"""Paths of this machine do not belong in public: of each, only the last part is published."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import Any

from ddpm.hub.contents import REPO_ID
from ddpm.presets import public_dataset

PRIVATE = ("/", "~", "../")  # how a path begins that says where somebody keeps their files


def without_paths(value: Any) -> Any:
    """Settings or figures with every private path in them shortened to its last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(PRIVATE):
        return Path(value).name
    with contextlib.suppress(ValueError):
        words = shlex.split(value)  # a command is shortened word by word, because a quoted path may hold spaces
        if value == shlex.join(words) and len(words) > 1:
            return shlex.join(Path(word).name if word.startswith(PRIVATE) else word for word in words)
    return with_short_paths(value)


def with_short_paths(text: str) -> str:
    """A sentence with every private path in it shortened to its last part; addresses of the web stay."""
    return re.sub(r"(?<![\w:/.~])~?/[^\s'\":;,()]+", lambda found: Path(found[0]).name, text)


def public_folder(directory: Path) -> str:
    """A relative path as it was given; only the name of an absolute one."""
    return directory.name if directory.is_absolute() else directory.as_posix()


def public_data(options: dict[str, Any], images: dict[str, Any]) -> str | None:
    """The public name of the training data; None if they are a folder on somebody's machine.

    Args:
        options, images: `options` and `data` of a train_config.json.
    """
    name, source = options["dataset_name"], images.get("source")
    if own := public_dataset(options["preset"], images["fingerprint"]):
        return own
    if source is None:  # earlier runs did not note their source
        source = "hub" if name == "digits" or (REPO_ID.fullmatch(name) and not Path(name).exists()) else "folder"
    return None if source == "folder" else name
