"""Tab "From my picture": x_t0 of a visitor's picture denoised several times, or on the line to a second picture's."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.server.examples import FIRST_DENOISED, FIRST_DIGIT, SECOND_DIGIT
from ddpm.ui.server.service import DENOISE_STEPS, FIRST_T0, Service
from ddpm.ui.tabs.parts import (
    caption,
    code_name,
    pad,
    picture,
    run_controls,
    run_panel,
    sampler_options,
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
    """Pictures beside each other, each with a number under it; `note` says which."""
    return f"""
<figure class="row" data-object="{of}" role="group" data-label="mine.{of}.label">
  {caption(of, f"mine.{of}").replace("</figcaption>", note + "</figcaption>")}
  <div class="grid"></div>
</figure>"""


def build(service: Service) -> gr.HTML:
    """The tab's contents and its event, denoise; what was drawn is fetched by its key."""
    size = service.checkpoint.resolution
    html = f"""
<section class="tab mine">
  {words("mine", "mine", CODE)}
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
      {run_controls(service.max_images, service.example_size[0], FIRST_DENOISED, "mine.denoise")}
    </form>
    <div class="progress" aria-hidden="true"><i></i></div>
    <p class="status answer"></p>
    {_row("mixture")}{_row("xt_mixture")}{_row("denoised", text("mine.distance", css="unit"))}
  </div>
  {why("mine")}
</section>"""

    first, second = (FIRST_DIGIT, SECOND_DIGIT) if service.checkpoint.channels == 1 else (0, 1)
    t0 = max(1, round(FIRST_T0 * service.num_steps))  # as `Service.denoise_example`
    options = {"first": first, "second": second, "t0": t0, "steps": DENOISE_STEPS}
    return run_panel(html, "mine", "denoise", service, service.runs.denoise, [service.finished], **options)
