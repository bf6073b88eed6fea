"""Tab "From my picture": a visitor's picture, noised to x_t0, is denoised several times,
or several blends with a second picture are denoised."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from ddpm.ui.panels import sampling_panel
from ddpm.ui.server.examples import FIRST_DENOISED, FIRST_DIGIT, FIRST_STEPS, SECOND_DIGIT, first_t0
from ddpm.ui.server.models import Models
from ddpm.ui.server.service import Service
from ddpm.ui.tabs.parts import (
    caption,
    code_name,
    headline,
    label_fields,
    pad,
    picture,
    sampler_options,
    sampling_controls,
    switch,
    t_bar,
    text,
    tools,
    why,
    words,
)

KINDS = ("several", "between")

CODE = f"reverse_process(engine, scheduler, shape, x_start={code_name('xt', 'xt')}, start_t=t0 - 1)"


def _row(of: str, note: str = "") -> str:
    """Pictures beside each other, each with a number under it; `note` says what the number is."""
    return f"""
<figure class="row" data-object="{of}" role="group" data-label="mine.{of}.label">
  {caption(of, f"mine.{of}").replace("</figcaption>", note + "</figcaption>")}
  <div class="grid"></div>
</figure>"""


def build(service: Service, models: Models) -> gr.HTML:
    """The tab's contents and its event, "denoise". The browser fetches the drawn pictures by their key."""
    size = service.checkpoint.resolution
    html = f"""
<section class="tab mine">
  {headline("mine")}
  <div class="stage">
    {switch("mine.kind", {kind: text(f"mine.kind.{kind}") for kind in KINDS})}
    <div class="board">
      {pad(size)}{picture("xt", "mine.xt", size)}{picture("x0_second", "mine.x0_second", size)}
      <div class="side">
        {tools()}
        <button type="button" class="swap">{text("mine.swap")}</button>
      </div>
    </div>
    {t_bar(1, service.num_steps)}
    <form class="controls" novalidate>
      <label class="wide">{text("reverse.sampler")}<select name="sampler">{sampler_options()}</select></label>
      {label_fields(service.checkpoint.classes)}
      {sampling_controls(service.max_images, service.example_size[0], FIRST_DENOISED, "mine.denoise")}
    </form>
    <div class="progress" aria-hidden="true"><i></i></div>
    <p class="status answer"></p>
    {_row("mixture")}{_row("xt_mixture")}{_row("denoised", text("mine.distance", css="unit"))}
  </div>
  {words("mine", "mine", CODE)}
  {why("mine")}
</section>"""

    first, second = (FIRST_DIGIT, SECOND_DIGIT) if service.checkpoint.channels == 1 else (0, 1)
    options = {"first": first, "second": second, "t0": first_t0(service.num_steps), "steps": FIRST_STEPS}

    def denoise(service: Service, sent: object) -> Iterator[dict]:
        return service.samplings.denoise(sent)

    return sampling_panel(html, "mine", "denoise", models, denoise, [Service.finished], **options)
