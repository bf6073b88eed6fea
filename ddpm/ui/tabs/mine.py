"""Tab "From my picture". A visitor's picture, noised to x_t0, is denoised several times, or several blends with a
second one are. What the visitor erased is filled in. The picture becomes noise and comes back, or walks to the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr

from ddpm.ui.panels import sampling_panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.examples import (
    COMPARED_JUMPS,
    FIRST_DENOISED,
    FIRST_PICTURE,
    FIRST_STEPS,
    SECOND_PICTURE,
    first_t0,
    inverted_steps,
    stored_pictures,
)
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.requests import FILLERS
from ddpm.ui.tabs.parts import (
    LEGEND,
    caption,
    code_name,
    headline,
    label_fields,
    pad,
    picture,
    quiz,
    sampler_options,
    sampling_controls,
    switch,
    t_bar,
    text,
    tools,
    why,
    words,
)

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

KINDS = ("several", "between", "fill", "invert")
NOISED = ("several", "between")  # those that begin at x_t0

CODE = f"reverse_process(engine, scheduler, shape, x_start={code_name('xt', 'xt')}, start_t=t0 - 1)"
FILL_CODE = (
    f"reverse_process(engine, scheduler, shape, known={code_name('x0', 'x0')}, mask={code_name('m', 'torn')}, "
    f"jumps={code_name(str(COMPARED_JUMPS[-1]), 'filled')})"
)
INVERT_CODE = f"{code_name('xT', 'code')} = encode(engine, scheduler, {code_name('x0', 'x0')}, num_inference_steps=n)"


def _only(html: str, *kinds: str) -> str:
    """HTML whose first element is shown with these kinds alone."""
    return re.sub(r"^\s*<(\w+)", rf'<\1 data-kinds="{" ".join(kinds)}"', html)


def _row(of: str, *kinds: str, note: str = "") -> str:
    """Pictures beside each other, each with a line under it; `note` says what it is."""
    html = f"""
<figure class="row" data-object="{of}" role="group" data-label="mine.{of}.label">
  {caption(of, f"mine.{of}").replace("</figcaption>", note + "</figcaption>")}
  <div class="grid"></div>
</figure>"""
    return _only(html, *kinds)


def _torn(size: int) -> str:
    """The picture from which visitors erase; `ddpm.eraser` brings it to life, together with the buttons below it."""
    return f"""
<figure class="picture" data-object="torn">
  {caption("torn", "mine.torn")}
  <canvas class="pixels torn" width="{size}" height="{size}" role="application" tabindex="0"></canvas>
</figure>"""


def _words() -> str:
    """What each kind says, and the longer explanations."""
    said = [("mine", "mine", CODE, NOISED), ("mine.fill", "fill", FILL_CODE, ("fill",))]
    said.append(("mine.invert", "invert", INVERT_CODE, ("invert",)))
    shown = [_only(words(tab, equation, code), *kinds) for tab, equation, code, kinds in said]
    folds = {"mine": "several", "mine.between": "between", "mine.fill": "fill", "mine.invert": "invert"}
    return "".join(shown) + "".join(_only(why(tab), kind) for tab, kind in folds.items())


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents and its event, "denoise". The browser fetches the drawn pictures by their key."""
    size = facts.resolution
    distance = text("mine.distance", css="unit")
    html = f"""
<section class="tab mine">
  {_only(headline("mine"), *NOISED)}{_only(headline("mine.fill"), "fill")}{_only(headline("mine.invert"), "invert")}
  <div class="stage">
    {switch("mine.kind", {kind: text(f"mine.kind.{kind}") for kind in KINDS})}
    <div class="board">
      {pad(size)}{_only(picture("xt", "mine.xt", size), "several")}
      {_only(picture("x0_second", "mine.x0_second", size), "between")}{_only(_torn(size), "fill")}
      <div class="side">
        {tools()}
        <button type="button" data-kinds="between" class="swap">{text("mine.swap")}</button>
        <div data-kinds="fill" class="erasing">
          <div class="buttons">
            <button type="button" class="undo">{text("mine.undo")}</button>
            <button type="button" class="restore">{text("mine.restore")}</button>
          </div>
          {text("mine.keys", "p")}
        </div>
      </div>
    </div>
    {_only(t_bar(1, facts.num_steps), *NOISED)}
    <form class="controls" novalidate>
      <label class="wide">{text("reverse.sampler")}<select name="sampler">{sampler_options()}</select></label>
      {label_fields(facts.classes)}
      {sampling_controls(facts.max_images, facts.example_size[0], FIRST_DENOISED, "mine.denoise")}
    </form>
    <div class="progress" aria-hidden="true"><i></i></div>
    <p class="status answer"></p>
    {_row("mixture", "between")}{_row("xt_mixture", "between")}{_row("denoised", *NOISED, note=distance)}
    {_row("walk", "between")}
    {_row("plain", "fill")}{_row("filled", "fill")}
    {_row("code", "invert", note=LEGEND)}{_row("decoded", "invert", note=distance)}
  </div>
  {_words()}
  {_only(quiz("mine", ("near", "medium", "far")), *NOISED)}
  {_only(quiz("mine.fill", ("plain", "jumping")), "fill")}
  {_only(quiz("mine.invert", ("near", "medium", "far")), "invert")}
</section>"""

    first, second = (FIRST_PICTURE, SECOND_PICTURE) if stored_pictures(facts) is not None else (0, 1)
    options = {"first": first, "second": second, "t0": first_t0(facts.num_steps), "steps": FIRST_STEPS}
    options |= {"jumps": COMPARED_JUMPS[-1], "fillers": list(FILLERS), "inverted": inverted_steps(facts.num_steps)}

    def denoise(service: Service, sent: object) -> Iterator[dict]:
        return service.samplings.denoise(sent)

    def finished(service: Service, key: object) -> dict | None:
        return service.finished(key)

    def example(service: Service, kind: object) -> list[str] | None:
        return service.example_rows(kind)

    return sampling_panel(html, "mine", "denoise", models, denoise, [finished, example], **options)
