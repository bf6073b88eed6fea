"""Tab "Compare": the same noise through several samplers and step counts."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.panels import rows_panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.requests import MAX_ROW_IMAGES, MAX_ROWS, MIN_ROWS
from ddpm.ui.server.rows import COMPARED, ROW_IMAGES, ROW_SEED, scaled
from ddpm.ui.tabs.parts import (
    along,
    code_name,
    headline,
    label_fields,
    literal,
    quiz,
    rows_board,
    sampler_options,
    sampling_controls,
    step_options,
    text,
    why,
    words,
)

# What "Add a row" offers: the first of these that no row has yet. They differ from the rows at first in one or
# two things each.
OFFERED = (
    {"sampler": "ddim", "num_inference_steps": 10},
    {"sampler": "dpm_solver++", "num_inference_steps": 20, "eta": 1},
    {"sampler": "dpm_solver++", "num_inference_steps": 5},
    {"sampler": "ddim", "num_inference_steps": 50, "eta": 1},
    {"sampler": "ddpm", "num_inference_steps": 50},
    {"sampler": "ddpm", "num_inference_steps": 10},
)

STEP_CHOICES = (2, 3, 5, 10, 20, 50, 100, 250, 500, 1000)

CODE = (
    f"for row in rows: reverse_process({code_name('engine', 'eps_hat')}, scheduler, shape, seed=1, "
    "sampler=row.sampler, num_inference_steps=row.steps, eta=row.eta)"
)


def _model_select(facts: Facts, models: Catalogue) -> str:
    """The choice of a row's model, where several have pictures of the same size, so that they can share a noise."""
    like = models.like(facts)
    if len(like) < 2:
        return ""
    options = "".join(
        f'<option value="{literal(each.name)}"{" selected" if each is facts else ""}>{literal(each.name)}</option>'
        for each in like
    )
    return f'<select name="model" data-label="compare.model">{options}</select>'


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents and its event, which has the name of the tab."""
    choices = step_options(STEP_CHOICES, facts.num_steps)
    most = min(MAX_ROW_IMAGES, facts.max_images)
    labels = label_fields(facts.classes, '<i aria-hidden="true">s</i>')
    labels = labels and f'<div class="row-label">{labels}</div>'
    head = f"""
{_model_select(facts, models)}<select name="sampler" data-label="reverse.sampler">{sampler_options()}</select>
<div class="row-more">
  <label class="row-steps"><select name="num_inference_steps" data-label="reverse.steps">{choices}</select>
    {text("compare.steps")}</label>
  <label class="eta"><i aria-hidden="true">&eta;</i>
    <input name="eta" type="number" min="0" max="1" step="0.1" value="0" data-label="reverse.eta"></label>
</div>
<button type="button" class="remove" data-label="compare.remove">&times;</button>{labels}"""
    more = text("compare.models", "p") if len(models.like(facts)) > 1 else ""
    html = f"""
<section class="tab sampling compare">
  {headline("compare")}
  <div class="stage">
    <form class="controls" novalidate>
      <button type="button" class="add">{text("compare.add")}</button>
      {sampling_controls(most, min(ROW_IMAGES, most), ROW_SEED, "reverse.sample")}
    </form>
    <p class="status"></p>
    {rows_board(head, facts.num_steps)}
  </div>
  {words("compare", "ddim", CODE, more + along(facts.resolution))}
  {why("compare")}
  {quiz("compare", low=2, high=MAX_ROWS)}
</section>"""
    first, offered = ([scaled(row, facts.num_steps) for row in rows] for rows in (COMPARED, OFFERED))
    return rows_panel(html, "compare", models, first=first, offered=offered, least=MIN_ROWS, most=MAX_ROWS)
