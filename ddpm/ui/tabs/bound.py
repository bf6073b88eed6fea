"""Tab "The bound": every term of Eq. 5 for one picture, and what remains of it without the weights."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.panels import reading_panel
from ddpm.ui.server.models import Models
from ddpm.ui.server.service import Service
from ddpm.ui.tabs.parts import chart, code_name, headline, pad, switch, t_bar, tex, text, tools, why, words

CODE = f"terms = elbo_terms(engine, schedule, {code_name('x0', 'x0')})"

TERMS = ("prior", "kl", "reconstruction", "total")


def _term(name: str) -> str:
    """One term of the sum: its symbol, its name and its value."""
    return f"""
<div class="term" data-object="{name}">
  <span class="name">{tex(name)}{text(f"bound.{name}")}</span><b>&hellip;</b>
</div>"""


def build(service: Service, models: Models) -> gr.HTML:
    """The tab's contents and its event, "bound" with a picture, to which the terms stream in."""
    size = service.checkpoint.resolution
    terms = [_term(name) for name in TERMS]
    shares = "".join(f'<i class="{name}"></i>' for name in TERMS[:3])
    html = f"""
<section class="tab bound">
  {headline("bound")}
  <div class="stage">
    <div class="board">
      {pad(size)}
      <div class="side">
        <div class="sum">
          {terms[0]}{tex("plus")}{terms[1]}{tex("plus")}{terms[2]}<div class="result">{tex("equals")}{terms[3]}</div>
        </div>
        <div class="shares" aria-hidden="true">{shares}</div>
        {tools()}
      </div>
    </div>
    <div class="choice">
      {switch("bound.loss", {name: text(f"bound.loss.{name}") for name in ("true", "simple")})}
      <p class="status answer"></p>
      <button type="button" class="again" hidden>{text("bound.again")}</button>
      <button type="button" class="stop" hidden>{text("bound.stop")}</button>
    </div>
    <div class="progress" aria-hidden="true"><i></i></div>
    {chart("terms")}
    {t_bar(1, service.num_steps)}
    <p class="half"></p>
  </div>
  {words("bound", "bound", CODE)}
  {why("bound")}
  <div class="charts">{chart("weights", "weight")}{chart("errors")}{chart("share")}</div>
</section>"""

    weights = [float(f"{w:.6g}") for w in service.checkpoint.schedule.kl_weight.tolist()]
    return reading_panel(html, "bound", "bound", models, concurrency_limit=2, weights=weights)
