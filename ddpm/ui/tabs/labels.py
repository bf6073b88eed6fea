"""Tab "Labels": pictures that are asked for by their name, and below them the question which name a picture has."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from ddpm.ui.panels import reading_panel, sampling_panel, trajectory
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.guided_rows import IMAGES, SCALES, SEED, most_images
from ddpm.ui.tabs.parts import (
    LEGEND,
    code_name,
    headline,
    pad,
    quiz,
    rows_board,
    sampling_controls,
    tex,
    text,
    tools,
    why,
    words,
)

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

CODE = (
    f"{code_name('eps_hat', 'eps_s')} = {code_name('eps_0', 'eps_0')} + s * ({code_name('eps_c', 'eps_c')} - "
    f"{code_name('eps_0', 'eps_0')})"
)
WHICH_CODE = f"class_posterior(engine, schedule, {code_name('x0', 'x0')}, num_classes, draw=rng)"

COMMANDS = (
    "accelerate launch train.py --class_conditional --output_dir runs/labels",
    "python app.py --model runs/labels",
)

PARTS = {"eps_0": "labels.without", "eps_c": "labels.with", "eps_gap": "labels.gap", "eps_s": "labels.guided"}
"""The pictures of the arrow, from its foot to its tip, and the keys of what they are called."""

NUM_SAMPLES = 10  # pictures that stand for a labelled data set, where the model has no labels


def _part(of: str, key: str, size: int) -> str:
    """A noise of the arrow, and under it the guess that follows from it."""
    symbol = {"eps_s": "eps_hat"}.get(of, of)
    times = '<output class="times"></output>' if of == "eps_gap" else ""
    noise, guess = (
        f'<canvas class="pixels{css}" width="{size}" height="{size}" role="img"></canvas>'
        for css in ("", "" if of == "eps_gap" else " guess")
    )
    return f"""
<figure class="part" data-object="{of}">
  <figcaption>{tex(symbol)}{times}</figcaption>{noise}
  <figcaption>{text(key)}{times}</figcaption>{guess}
</figure>"""


def _arrow(size: int) -> str:
    """What the label changes: eps_0, eps_c, their difference and eps_hat of one picture, and the slider of s."""
    marks = "".join(f'<i data-value="{s:g}">{s:g}</i>' for s in SCALES)
    return f"""
<div class="arrow" role="group" data-label="labels.arrow">
  <div class="equation">{tex("guidance")}</div>
  <label class="scale"><span class="scale-says"></span>
    <input type="range" name="s" min="0" max="{SCALES[-1]:g}" step="0.5" value="2" data-label="labels.scale">
    <span class="marks" aria-hidden="true">{marks}</span></label>
  <div class="parts">{"".join(_part(of, key, size) for of, key in PARTS.items())}</div>
  <p class="arrow-says"></p>
  <div class="arrow-more"><label>{text("labels.picture")}
    <input type="number" name="picture" min="1" max="{IMAGES}" value="1"></label>{LEGEND}</div>
</div>"""


def _names() -> str:
    """The names to choose from; a field to search among them, if they are many."""
    return """
<div class="names" role="group" data-label="labels.names">
  <input type="search" class="find" autocomplete="off" spellcheck="false" hidden>
  <div class="list"></div>
  <p class="rest" role="status"></p>
</div>"""


def build(facts: Facts, models: Catalogue) -> None:
    """The tab's contents and its events, "labels" with what is asked for and "classify" with a picture.

    The page of every model has the same panels and events, since they are shared. Where a model has no labels, the
    upper panel explains what they are, and the lower one is hidden.
    """
    labelled = facts.classes is not None
    html, script, options = _ask(facts) if labelled else _explain(facts)

    def example(service: Service, _: object) -> list[str] | None:
        return service.example_rows("labels")

    def halves(service: Service, asked: object) -> dict | None:
        return service.samplings.halves(asked)

    def sample(service: Service, sent: object) -> Iterator[dict]:
        return service.samplings.sample_guided(sent)

    found = [trajectory, example, halves]
    sampling_panel(html, "labels", "labels", models, sample, found, script=script, **options)
    below = _which(facts) if labelled else ""
    reading_panel(below, "which", "classify", models, concurrency_limit=2, visible=labelled)


Parts = tuple[str, str, dict[str, Any]]
"""HTML, script and options of a panel."""


def _ask(facts: Facts) -> Parts:
    """The upper part: the same noise with a label, in rows by s."""
    classes, most = facts.classes, most_images(facts.max_images)
    assert classes is not None
    head = '<button type="button" class="cell row-name"></button><span class="row-settings"></span>'
    html = f"""
<section class="tab sampling labels">
  {headline("labels")}
  <div class="stage">
    <form class="controls" novalidate>
      {_names()}
      {sampling_controls(most, min(IMAGES, most), SEED, "reverse.sample")}
    </form>
    <p class="status"></p>
    {rows_board(head, facts.num_steps)}
    {_arrow(facts.resolution)}
  </div>
  {words("labels", "tilted", CODE)}
  {why("labels")}
</section>"""

    return html, "labels.js", {"first": facts.first_class, "scales": list(SCALES)}


def _which(facts: Facts) -> str:
    """The lower part: p(y | x_0) of the visitor's picture, from the bound."""
    return f"""
<section class="tab which">
  {headline("which")}
  <div class="stage">
    <div class="board">
      <div class="side">{pad(facts.resolution)}{tools()}</div>
      <div class="verdict" data-object="posterior">
        <div class="head" aria-hidden="true">{text("which.label")}{text("which.probability")}
          {text("which.saved")}</div>
        <ol class="bars" data-label="which.bars"></ol>
        <div class="progress" aria-hidden="true"><i></i></div>
        <div class="choice">
          <p class="status answer"></p>
          <button type="button" class="again" hidden>{text("bound.again")}</button>
          <button type="button" class="stop" hidden>{text("bound.stop")}</button>
        </div>
      </div>
    </div>
  </div>
  {words("which", "posterior", WHICH_CODE)}
  {why("which")}
  {quiz("which", ("one", "three", "thirty"))}
</section>"""


def _explain(facts: Facts) -> Parts:
    """What stands in the tab's place where the model has no labels: what these are, and how to train with them."""
    size = facts.resolution
    first = 0 if facts.channels == 1 else 1  # the digits begin at 0; others are counted
    sample = f"""
<figure class="picture"><canvas class="pixels" width="{size}" height="{size}" role="img"></canvas>
  <figcaption></figcaption></figure>"""
    commands = "".join(f"<code tabindex='0'>{escape(command)}</code>" for command in COMMANDS)
    html = f"""
<section class="tab unlabelled">
  {headline("unlabelled")}
  <div class="stage">
    <div class="named">{sample * NUM_SAMPLES}</div>
    {text("unlabelled.here", "p")}
    <p class="others" hidden></p>
    <div class="again">{text("unlabelled.command")}{commands}
      <button type="button" class="copy">{text("training.copy")}</button></div>
  </div>
  {words("unlabelled", "guidance", "loss = F.mse_loss(model(xt, t, label).sample, eps)")}
  {quiz("unlabelled", low=first, high=first + NUM_SAMPLES - 1)}
</section>"""
    return html, "unlabelled.js", {"commands": list(COMMANDS)}
