"""Tab "Reverse": Algorithm 2 and its faster relatives, streamed while they run, scrubbed in the browser afterwards."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.server.service import Service
from ddpm.ui.tabs.parts import caption, code_name, player, run_controls, run_panel, sampler_options, text, why, words

STEP_CHOICES = (10, 20, 50, 100, 250, 1000)

CODE = (
    f"for step in reverse_process({code_name('engine', 'eps_hat')}, scheduler, shape): "
    f"show({code_name('step.xt', 'xt')}, {code_name('step.x0_hat', 'x0_hat')}, {code_name('step.eps_hat', 'eps_hat')})"
)


def _plane(of: str) -> str:
    """One picture per sample, all of one kind."""
    return f"""
<figure class="plane" data-object="{of}" role="group" data-label="reverse.{of}.label">
  {caption(of, f"reverse.{of}")}
  <div class="grid"></div>
</figure>"""


def build(service: Service) -> gr.HTML:
    """The tab's contents and its event, sample; a finished trajectory is fetched by its key."""
    steps = [n for n in STEP_CHOICES if n < service.num_steps] + [service.num_steps]
    default_steps = 50 if 50 in steps else steps[-1]
    choices = "".join(f"<option{' selected' if n == default_steps else ''}>{n}</option>" for n in steps)
    html = f"""
<section class="tab sampling reverse">
  {words("reverse", "reverse", CODE)}
  <div class="stage">
    <form class="controls" novalidate>
      <label class="wide">{text("reverse.sampler")}<select name="sampler">{sampler_options()}</select></label>
      <label class="eta">{text("reverse.eta")}
        <input name="eta" type="number" min="0" max="1" step="0.1" value="0"></label>
      <label>{text("reverse.steps")}<select name="num_inference_steps">{choices}</select></label>
      {run_controls(service.max_images, service.example_size[0], 0, "reverse.sample")}
    </form>
    <div class="progress" aria-hidden="true"><i></i></div>
    <p class="status"></p>
    <div class="planes">{_plane("xt")}{_plane("x0_hat")}{_plane("eps_hat")}</div>
    {player(service.num_steps)}
    <div class="strip"><p class="strip-title"></p><div class="strip-rows"></div></div>
    <div class="buttons saves">
      <button type="button" class="save-gif"><span></span></button>
      <button type="button" class="save-png">{text("reverse.save_png")}</button>
    </div>
  </div>
  {why("reverse")}
</section>"""

    return run_panel(html, "reverse", "sample", service, service.runs.sample, [service.trajectory])
