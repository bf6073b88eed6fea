"""Tab "What goes wrong": mistakes of sampling, each beside the same sampling without it."""

from __future__ import annotations

import gradio as gr

from ddpm.ui.panels import rows_panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.rows import FAULTS, FIRST_FAULT, ROW_IMAGES
from ddpm.ui.tabs.parts import along, code_name, headline, quiz, rows_board, switch, text, why, words

# The lines of `reverse_process` in which the mistakes lie: in z, in `limit` and in the factors of the update.
CODE = (
    f"{code_name('x0_hat', 'x0_hat')} = update.x0_hat({code_name('xt', 'xt')}, eps_hat, limit)<br>"
    f"x_prev = update.x_prev(x0_hat, xt, eps_hat, z, x0_before)"
)


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents and its event, which has the name of the tab."""
    T = facts.num_steps
    html = f"""
<section class="tab sampling wrong">
  {headline("wrong")}
  <div class="stage">
    {switch("wrong.fault", {name: text(f"wrong.{name}") for name in FAULTS})}
    <div class="lesson">
      <div class="lines">
        <p><span class="tag" data-text="wrong.right"></span><code class="right"></code></p>
        <p><span class="tag" data-text="wrong.wrong"></span><code class="mistake"></code></p>
      </div>
      <p class="see"></p>
    </div>
    <div class="controls">
      <label class="amount" hidden><span></span><input type="range"></label>
      <button type="button" class="go">{text("wrong.again")}</button>
      <button type="button" class="primary stop" hidden>{text("reverse.stop")}</button>
      <p class="status"></p>
    </div>
    {rows_board('<p class="row-name"></p><p class="row-settings"></p>', T)}
  </div>
  {words("wrong", "ancestral", CODE, along(facts.resolution))}
  {why("wrong")}
  {quiz("wrong", ("little", "some", "much"))}
</section>"""
    faults = {
        name: {
            "rows": fault.rows(T),
            "code": fault.code,
            "plane": fault.plane,
            "amount": fault.amount_for(T),
        }
        for name, fault in FAULTS.items()
    }
    images = min(ROW_IMAGES, facts.max_images)
    return rows_panel(html, "wrong", models, faults=faults, first=FIRST_FAULT, images=images)
