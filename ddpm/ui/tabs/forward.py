"""Tab "Forward": q(x_t | x_0), Eq. 4, beside other schedules. All of it is computed in the browser (forward.js)."""

from __future__ import annotations

import gradio as gr
import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm.schedule import NoiseSchedule
from ddpm.ui.panels import panel
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.examples import FIRST_PICTURE, stored_pictures
from ddpm.ui.server.models import Models
from ddpm.ui.server.service import Service
from ddpm.ui.tabs.parts import (
    chart,
    code_name,
    figure,
    headline,
    key_line,
    pad,
    picture,
    quiz,
    t_bar,
    tex,
    tools,
    why,
    words,
)

CODE = (
    f"{code_name('xt', 'xt')} = schedule.q_sample({code_name('x0', 'x0')}, {code_name('eps', 'eps')}, "
    f"{code_name('t', 'alpha_bar')})"
)

SCHEDULES = {
    "squaredcos_cap_v2": {},
    "linear": {},
    "scaled_linear": {},
    "sigmoid": {},
    "laplace": {},
    "zero_snr": {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
}
"""The schedules of diffusers, by the name that the texts use. The values are options of DDPMScheduler; its
`beta_schedule` is the name unless an option says otherwise. beta_1 and beta_T are its defaults, those of the paper. At
first the tab compares the model's own schedule with the first of the others."""

BETA_UNIT = 1e-8  # as in forward.js; diffusers computes betas in float32, which is coarser from 0.1 on


LOG_SNR = "log_snr"
LOG_SNR_ENDS = (13.3, -6.0)  # the defaults of train.py


def schedule_betas(num_steps: int) -> dict[str, Tensor]:
    """beta_1 ... beta_T of every one of SCHEDULES as diffusers computes them, and those of a schedule whose log SNR
    falls linearly, which diffusers does not have; (T,), in (0, 1]."""
    betas = {
        name: DDPMScheduler(num_train_timesteps=num_steps, **{"beta_schedule": name, **options}).betas
        for name, options in SCHEDULES.items()
    }
    return betas | {LOG_SNR: NoiseSchedule.from_log_snr(num_steps, *LOG_SNR_ENDS).beta}


def _is_log_snr(schedule: NoiseSchedule) -> bool:
    """Whether the log SNR falls linearly in t, whatever its ends are."""
    steps = torch.logit(schedule.alpha_bar).diff()
    return bool(torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-3))


def compared(schedule: NoiseSchedule) -> tuple[str, dict[str, list[int]]]:
    """The name of a model's own schedule, "own" if it has none, and the betas of the others.

    The betas are second differences in units of BETA_UNIT: small numbers, since the curves are smooth, so that they
    take few bytes once compressed.
    """
    betas = schedule_betas(schedule.num_steps)
    own = [name for name, beta in betas.items() if torch.allclose(beta.double(), schedule.beta, rtol=1e-5, atol=0)]
    own = own or ([LOG_SNR] if _is_log_snr(schedule) else [])
    whole = {name: np.rint(beta.double().numpy() / BETA_UNIT).astype(int) for name, beta in betas.items()}
    others = {name: np.diff(w, n=2, prepend=[0, 0]).tolist() for name, w in whole.items() if name not in own}
    return (own or ["own"])[0], others


def _second(names: list[str], size: int) -> str:
    """The same picture and noise under another schedule, which is chosen in the caption."""
    options = "".join(f'<option value="{name}" data-text="schedule.{name}"></option>' for name in names)
    return f"""
<figure class="picture" data-object="xt_other">
  <figcaption>{key_line("other")}<select name="schedule" data-label="forward.schedule">{options}</select></figcaption>
  <canvas class="pixels" width="{size}" height="{size}" role="img"></canvas>
</figure>"""


def build(service: Service, models: Models) -> gr.HTML:
    """The tab's contents. A model without stored examples shows samples of its own, fetched once they are drawn."""
    size = service.checkpoint.resolution
    own, others = compared(service.checkpoint.schedule)
    html = f"""
<section class="tab forward">
  {headline("forward")}
  <div class="stage">
    <div class="mix">
      {pad(size)}
      <div class="weight" data-object="alpha_bar">{tex("times")}{figure("signal")}{tex("plus")}</div>
      {picture("eps", "forward.eps", size)}
      <div class="weight" data-object="alpha_bar">{tex("times")}{figure("spread")}{tex("equals")}</div>
      {picture("xt", "forward.xt", size, key_line("own"))}
      {_second(list(others), size)}
    </div>
    {tools()}
    {t_bar(1, service.num_steps)}
    <div class="compared">
      <p>{key_line("own")}<span class="own-says"></span></p>
      <p>{key_line("other")}<span class="other-says"></span></p>
      <p class="see"></p>
    </div>
  </div>
  {words("forward", "forward", CODE)}
  {why("forward")}
  <div class="charts">
    {chart("alpha_bar", "alpha_bar")}{chart("beta", "beta")}{chart("snr", "snr")}{chart("histogram")}
  </div>
  {quiz("forward", high=service.num_steps)}
</section>"""

    def example_pictures(service: Service, _: object) -> dict | None:
        return service.example_pictures()

    stored = stored_pictures(service.checkpoint)
    return panel(
        html,
        "forward.js",
        models,
        elem_id="forward",
        server_functions=[example_pictures],
        examples=None if stored is None else to_base64(stored),
        first=FIRST_PICTURE if stored is not None else 0,
        own=own,
        schedules=others,
    )
