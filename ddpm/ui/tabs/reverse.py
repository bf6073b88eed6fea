"""Tab "Reverse": Algorithm 2 and faster samplers, streamed while they draw, then scrubbed in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr

from ddpm.ui.panels import sampling_panel, trajectory
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.examples import FIRST_SEED, FIRST_STEPS
from ddpm.ui.server.facts import Facts
from ddpm.ui.tabs.parts import (
    along,
    caption,
    code_name,
    headline,
    label_fields,
    player,
    quiz,
    sampler_options,
    sampling_controls,
    step_options,
    text,
    why,
    words,
)

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

STEP_CHOICES = (10, 20, 50, 100, 250, 1000)

CODE = (
    f"for step in reverse_process({code_name('engine', 'eps_hat')}, scheduler, shape): "
    f"show({code_name('step.xt', 'xt')}, {code_name('step.x0_hat', 'x0_hat')}, {code_name('step.eps_hat', 'eps_hat')})"
)


def _plane(of: str) -> str:
    """The pictures of one kind, one for each sample."""
    return f"""
<figure class="plane" data-object="{of}" role="group" data-label="reverse.{of}.label">
  {caption(of, f"reverse.{of}")}
  <div class="grid"></div>
</figure>"""


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents and its event, "sample". The browser fetches a finished trajectory by its key."""
    choices = step_options(STEP_CHOICES, facts.num_steps, selected=min(FIRST_STEPS, facts.num_steps))
    html = f"""
<section class="tab sampling reverse">
  {headline("reverse")}
  <div class="stage">
    <form class="controls" novalidate>
      <label class="wide">{text("reverse.sampler")}<select name="sampler">{sampler_options()}</select></label>
      <label class="eta">{text("reverse.eta")}
        <input name="eta" type="number" min="0" max="1" step="0.1" value="0"></label>
      {label_fields(facts.classes)}
      <label>{text("reverse.steps")}<select name="num_inference_steps">{choices}</select></label>
      {sampling_controls(facts.max_images, facts.example_size[0], FIRST_SEED, "reverse.sample")}
    </form>
    <div class="progress" aria-hidden="true"><i></i></div>
    <p class="status"></p>
    <div class="planes">{_plane("xt")}{_plane("x0_hat")}{_plane("eps_hat")}</div>
    {player(facts.num_steps)}
    <div class="strip"><p class="strip-title"></p><div class="strip-rows"></div></div>
    <div class="buttons saves">
      <button type="button" class="save-gif"><span></span></button>
      <button type="button" class="save-png">{text("reverse.save_png")}</button>
    </div>
  </div>
  {words("reverse", "reverse", CODE, along(facts.resolution))}
  {why("reverse")}
  {quiz("reverse", high=facts.num_steps)}
</section>"""

    def sample(service: Service, sent: object) -> Iterator[dict]:
        return service.samplings.sample(sent)

    return sampling_panel(html, "reverse", "sample", models, sample, [trajectory])
