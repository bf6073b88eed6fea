"""Tab "Reverse": Algorithm 2 and its faster relatives, streamed while they run, scrubbed in the browser afterwards."""

from __future__ import annotations

import gradio as gr

from ddpm.sampling import SAMPLERS

from .checks import MAX_SEED
from .parts import caption, code_name, panel, t_bar, text, why, words
from .service import Service

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
    """The tab's contents and its three events: sample, stop, and fetching a finished trajectory by its key."""
    steps = [n for n in STEP_CHOICES if n < service.num_steps] + [service.num_steps]
    default_steps = 50 if 50 in steps else steps[-1]
    samplers = "".join(f'<option value="{name}" data-text="sampler.{name}"></option>' for name in SAMPLERS)
    choices = "".join(f"<option{' selected' if n == default_steps else ''}>{n}</option>" for n in steps)
    images = service.example_size[0]
    html = f"""
<section class="tab reverse">
  {words("reverse", "reverse", CODE)}
  <div class="stage">
    <form class="controls" novalidate>
      <label class="wide">{text("reverse.sampler")}<select name="sampler">{samplers}</select></label>
      <label class="eta">{text("reverse.eta")}
        <input name="eta" type="number" min="0" max="1" step="0.1" value="0"></label>
      <label>{text("reverse.steps")}<select name="num_inference_steps">{choices}</select></label>
      <label>{text("reverse.images")}
        <input name="num_images" type="number" min="1" max="{service.max_images}" value="{images}"></label>
      <label>{text("reverse.seed")}
        <input name="seed" type="number" min="0" max="{MAX_SEED}" value="1"></label>
      <button type="button" class="new-seed" data-label="reverse.new_seed">&#x21bb;</button>
      <button type="submit" class="primary go">{text("reverse.sample")}</button>
      <button type="button" class="primary stop" hidden>{text("reverse.stop")}</button>
    </form>
    <div class="progress" aria-hidden="true"><i></i></div>
    <p class="status" role="status" aria-live="polite"></p>
    <div class="planes">{_plane("xt")}{_plane("x0_hat")}{_plane("eps_hat")}</div>
    <div class="player">
      <button type="button" class="play" data-label="reverse.play"></button>
      {t_bar(0, service.num_steps)}
      <label class="speed"><select data-label="reverse.speed">
        <option value="0.5">&frac12;&times;</option><option value="1" selected>1&times;</option>
        <option value="2">2&times;</option><option value="4">4&times;</option></select></label>
    </div>
    <div class="strip"><p class="strip-title"></p><div class="strip-rows"></div></div>
  </div>
  {why("reverse")}
</section>"""

    def trajectory(key: object) -> dict | None:  # a bound method cannot be marked as Gradio does it
        return service.trajectory(key)

    tab = panel(html, "reverse.js", elem_id="reverse", server_functions=[trajectory])

    def sample(event: gr.EventData):
        yield from service.sample(event._data)

    options = {"show_progress": "hidden", "api_visibility": "private"}
    run = tab.sample(sample, None, tab, concurrency_id="model", concurrency_limit=1, trigger_mode="multiple", **options)
    tab.stop(None, None, None, cancels=[run], **options)
    return tab
