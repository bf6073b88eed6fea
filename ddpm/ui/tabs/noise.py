"""Tab "Predict the noise": eps_theta(x_t, t) beside the truth at a spread of t, read in four ways."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.panels import reading_panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.facts import Facts
from ddpm.ui.tabs.parts import (
    LEGEND,
    chart,
    code_name,
    colour_noise,
    headline,
    pad,
    picture,
    quiz,
    switch,
    t_bar,
    tex,
    text,
    tools,
    why,
    words,
)

READINGS = ("eps", "x0", "mu", "v")

CODE = f"loss = F.mse_loss(engine({code_name('xt', 'xt')}, t), {code_name('eps', 'eps')})"


def _row(role: str, size: int) -> str:
    """A picture of which noise.js says what it shows, since that depends on the reading."""
    legend = LEGEND if role == "difference" else ""
    return f"""
<figure class="picture" data-role="{role}">
  <figcaption><span class="tex symbol"></span>{text(f"noise.{role}")}{legend}</figcaption>
  <canvas class="pixels" width="{size}" height="{size}" role="img"></canvas>
</figure>"""


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents and its event, "predict" with a picture. The browser then fetches eps_hat by its key."""
    size = facts.resolution
    html = f"""
<section class="tab noise">
  {headline("noise")}
  <div class="stage">
    <div class="board">
      <div class="views">
        {pad(size)}{picture("xt", "noise.xt", size)}{picture("x0_hat", "noise.x0_hat", size)}
        {_row("target", size)}{_row("prediction", size)}{_row("difference", size)}
      </div>
      <div class="side">
        <div class="reading">
          {text("noise.reading", "p", "side-title")}
          {switch("noise.reading", {name: tex(name) for name in READINGS})}
          <div class="equation"><span class="tex conversion"></span></div>
        </div>
        {chart("mse")}
        {tools()}
      </div>
    </div>
    <p class="status answer"></p>
    {t_bar(1, facts.num_steps)}
  </div>
  {words("noise", "simple", CODE, colour_noise(facts.channels))}
  {why("noise")}
  {quiz("noise", high=facts.num_steps)}
</section>"""

    timesteps = [t + 1 for t in facts.timesteps]
    return reading_panel(
        html, "noise", "predict", models, concurrency_limit=4, timesteps=timesteps, factor=facts.factor
    )
