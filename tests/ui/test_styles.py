"""The style sheets: each one is on the page, none has a rule for nothing, and what is Gradio's is in one of them."""

import re
from functools import cache
from pathlib import Path

import gradio
import pytest

from ddpm.ui.page import STYLES
from ddpm.ui.panels import UI, read_static

WIDTHS = {"1240", "1080", "980", "640", "641"}
GRADIO = "static/gradio.css"


def rules(name: str) -> str:
    """A style sheet without its comments."""
    return re.sub(r"/\*.*?\*/", "", read_static(name), flags=re.S)


def classes(name: str) -> set[str]:
    """The classes that its selectors name."""
    return set(re.findall(r"\.([a-zA-Z][\w-]*)", " ".join(re.findall(r"([^{};]+)\{", rules(name)))))


@cache
def sources() -> str:
    return "".join(path.read_text() for kind in ("py", "js") for path in UI.glob(f"**/*.{kind}"))


def test_every_style_sheet_is_on_the_page_once():
    assert sorted(STYLES) == sorted(path.relative_to(UI).as_posix() for path in UI.glob("**/*.css"))


@pytest.mark.parametrize("name", [name for name in STYLES if name != GRADIO])
def test_every_class_with_a_rule_is_used_by_the_page(name):
    """`parts.figure` makes the class of-NAME from a name."""
    unused = {
        one for one in classes(name) if not re.search(rf"(?<![\w-]){one.removeprefix('of-')}(?![\w-])", sources())
    }
    assert unused == set()


def test_every_variable_is_set_and_used():
    styles = "".join(rules(name) for name in STYLES)
    used = set(re.findall(r"var\((--[\w-]+)", styles))
    assert set(re.findall(r"(--[\w-]+):", styles)) <= used | set(re.findall(r"var\((--[\w-]+)", sources()))
    by_script = {"--columns", "--least", "--least-narrow", "--narrow", "--tour", "--below", "--view", "--picture-ratio"}
    assert used - by_script <= set(re.findall(r"(--[\w-]+):", styles))


def test_screens_are_narrow_at_the_same_widths_everywhere():
    assert {width for name in STYLES for width in re.findall(r"@media [^{]*?(\d+)px", rules(name))} == WIDTHS


def test_gradio_still_has_the_classes_that_are_styled():
    ours = {"touring"}
    wanted = classes(GRADIO) - ours
    assert len(wanted) > 8
    assets = Path(gradio.__file__).parent / "templates" / "frontend"
    gone = wanted
    for path in [*assets.glob("**/*.css"), *assets.glob("**/*.js")]:
        text = path.read_text(errors="ignore")
        gone = {one for one in gone if not re.search(rf"(?<![\w-]){one}(?![\w-])", text)}
        if not gone:
            break
    assert gone == set(), f"Gradio {gradio.__version__} has no such class any more: adapt {GRADIO} to {sorted(gone)}"


@pytest.mark.parametrize("name", [name for name in STYLES if name != GRADIO])
def test_only_one_style_sheet_knows_gradio(name):
    """The class of the dark theme is the exception: colours belong together."""
    assert classes(name) & (classes(GRADIO) - {"touring", "selected"}) == set()
