"""Tab "Training": how the model on the page was trained, as its files tell, and a small model that is trained live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from ddpm.config import preset
from ddpm.hub.card import command
from ddpm.presets import REFERENCE_VAL_LOSS
from ddpm.ui.panels import panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.facts import Facts
from ddpm.ui.tabs.parts import along, code_name, headline, quiz, switch, text, why, words

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

CODE = f"for {code_name('progress', 'loss')} in train(config): show({code_name('progress.rows', 'loss')})"


def _story(name: str, title: str, controls: str = "") -> str:
    """One training, recorded or live: its losses, its samples, and a slider over its steps."""
    return f"""
<section class="story {name}">
  <header>{text(title, "h3")}{controls}</header>
  <p class="status facts"></p>
  <div class="board">
    <figure class="chart" data-object="loss" data-chart="{name}">
      <figcaption>{text("training.loss")}<output class="now"></output></figcaption>
      <div class="plot" role="img"></div>
      <div class="axis steps" aria-hidden="true"></div>
    </figure>
    <div class="scrub"><input type="range" min="0" max="1000" step="1" value="0" data-label="training.slider"></div>
    <div class="keys"></div>
    <figure class="picture" data-object="samples">
      <figcaption><span class="of-step"></span></figcaption>
      <canvas class="sheet" width="266" height="266" role="img"></canvas>
    </figure>
  </div>
  <div class="choice">
    {switch("training.view", {view: text(f"training.view.{view}") for view in ("all", "by_t")})}
  </div>
  <div class="again" hidden>{text(f"training.again.{name}")}<code tabindex="0"></code>
    <button type="button" class="copy">{text("training.copy")}</button></div>
</section>"""


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents. It has no events: the browser fetches the record, and during a training whatever is new."""
    buttons = f"""
<button type="button" class="primary go">{text("training.start")}</button>
<button type="button" class="primary stop" hidden>{text("training.stop")}</button>"""
    example = along(facts.resolution, "training.along", noise=True)
    html = f"""
<section class="tab training">
  {headline("training")}
  <div class="stage">
    {_story("recorded", "training.recorded")}
    {_story("live", "training.live", buttons)}
  </div>
  {words("training", "training", CODE, example)}
  {why("training")}
  {quiz("training", ("twentieth", "quarter", "half"))}
</section>"""

    def story(service: Service, _: object) -> dict:
        return service.recorded.story()

    def grid(service: Service, step: object) -> str | None:
        return service.recorded.grid(step)

    def noise(service: Service, _: object) -> str | None:
        return service.live.noise if service.live else None

    def start(service: Service, visitor: object) -> dict:
        return service.live.start(visitor) if service.live else {"started": False}

    def stop(service: Service, visitor: object) -> None:
        if service.live:
            service.live.stop(visitor)

    def look(service: Service, asked: object) -> dict:
        asked = asked if isinstance(asked, dict) else {}
        names = ("visitor", "run", "since")
        return service.live.look(*map(asked.get, names)) if service.live else {}

    full, live, shown = preset("digits"), models.live, None
    if live:
        shown = {
            "steps": live.max_train_steps,
            "rows": live.logging_steps,
            "seconds": 60 * live.max_train_minutes,
            "full_steps": full.max_train_steps,
            "full_loss": REFERENCE_VAL_LOSS["digits"],
            "command": command({}, "digits", {"processes": 1, "device": "cpu"}),
        }
    return panel(
        html,
        "training.js",
        models,
        elem_id="training",
        server_functions=[story, grid, noise, start, stop, look],
        waits=True,
        live=shown,
    )
