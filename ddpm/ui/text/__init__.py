"""Every visible string of the page, in English and in Chinese, and the TeX of its symbols and equations.

The browser holds the whole table and fills elements by key (`data-text`, `data-label`), so switching the language needs
no request. In a string, TeX stands between dollar signs, the page fills in `{name}`, `{name?step:steps}` is its first
word if the field is 1 and else the second, `[words](name)` outline the picture of that name while they are pointed at,
and `||` separates paragraphs.
"""

from __future__ import annotations

import re

from ddpm.ui.text import (
    bound,
    compare,
    forward,
    labels,
    mine,
    noise,
    page,
    refusals,
    reverse,
    rows,
    tour,
    training,
    wrong,
)
from ddpm.ui.text.equations import EQUATIONS

__all__ = ["AREAS", "EQUATIONS", "LANGUAGES", "TEXT", "say"]

LANGUAGES = ("en", "zh")
PLURAL = re.compile(r"\{(\w+)\?([^:}]*):([^}]*)\}")

AREAS = (page, forward, noise, bound, reverse, rows, labels, compare, wrong, mine, training, tour, refusals)
"""The modules that hold the strings: `PAIRS`, key -> (English, Chinese)."""

TEXT: dict[str, dict[str, str]] = {
    language: {key: pair[i] for area in AREAS for key, pair in area.PAIRS.items()}
    for i, language in enumerate(LANGUAGES)
}
"""language -> key -> string."""


def say(key: str, language: str = "en", **fields: object) -> str:
    """The string of `key` with its fields filled in."""
    chosen = PLURAL.sub(lambda found: found[2 if fields[found[1]] == 1 else 3], TEXT[language][key])
    return chosen.format(**fields)
