"""Tab "The bound": every term of Eq. 5 for one picture, and what remains of it without the weights."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.panels import reading_panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.facts import Facts
from ddpm.ui.tabs.parts import (
    chart,
    code_name,
    headline,
    literal,
    pad,
    quiz,
    switch,
    t_bar,
    tex,
    text,
    tools,
    why,
    words,
)

CODE = f"terms = elbo_terms(engine, schedule, {code_name('x0', 'x0')})"

TERMS = ("prior", "kl", "reconstruction", "total")


def _term(name: str) -> str:
    """One term of the sum: its symbol, its name and its value."""
    return f"""
<div class="term" data-object="{name}">
  <span class="name">{tex(name)}{text(f"bound.{name}")}</span><b>&hellip;</b>
</div>"""


def _others(facts: Facts, models: Catalogue) -> str:
    """The choice of a model that codes the same picture; empty if there is none like this one."""
    like = [each for each in models.like(facts) if each is not facts]
    if not like:
        return ""
    none = '<option value="" data-text="bound.under.none"></option>'
    options = none + "".join(f'<option value="{literal(each.name)}">{literal(each.name)}</option>' for each in like)
    return f"""
<div class="under">
  <label>{text("bound.under")} <select name="under">{options}</select></label>
  <p class="status other-answer"></p>
</div>"""


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents and its event, "bound" with a picture, to which the terms stream in."""
    size = facts.resolution
    terms = [_term(name) for name in TERMS]
    shares = "".join(f'<i class="{name}"><i class="paid"></i></i>' for name in TERMS[:3])
    kinds = switch("bound.variance", {kind: text(f"bound.variance.{kind}") for kind in facts.variances})
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
        <p class="floor"></p>
        {tools()}
      </div>
    </div>
    <div class="choice">
      <div class="variance">{text("bound.variance")}{kinds}</div>
      {switch("bound.loss", {name: text(f"bound.loss.{name}") for name in ("true", "simple")})}
      <p class="status answer"></p>
      <button type="button" class="again" hidden>{text("bound.again")}</button>
      <button type="button" class="stop" hidden>{text("bound.stop")}</button>
    </div>
    <div class="progress" aria-hidden="true"><i></i></div>
    {chart("terms")}
    {t_bar(1, facts.num_steps)}
    <p class="half"></p>{_others(facts, models)}
  </div>
  {words("bound", "bound", CODE)}
  {why("bound")}
  <div class="charts">{chart("weights", "weight")}{chart("errors")}{chart("share")}</div>
  {quiz("bound", ("early", "late"))}
</section>"""

    weights = facts.optimal_weights
    return reading_panel(html, "bound", "bound", models, concurrency_limit=2, optimal_weights=weights)
