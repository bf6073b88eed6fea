"""Tab "What goes wrong": mistakes of sampling, each beside the same run without it."""

from __future__ import annotations

import gradio as gr

from .parts import code_name, rows_board, rows_panel, switch, text, why, words
from .rows import FAULTS, FIRST_FAULT, ROW_IMAGES
from .service import Service

CODE = (
    f"x = posterior_mean({code_name('x0_hat', 'x0_hat')}.clamp(-1, 1), {code_name('x', 'xt')}, t) "
    "+ (sigma[t] * z if t > 1 else 0)"
)


def build(service: Service) -> gr.HTML:
    """The tab's contents and its event, of its own name."""
    T = service.num_steps
    html = f"""
<section class="tab sampling wrong">
  {words("wrong", "ancestral", CODE)}
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
      <p class="status" role="status" aria-live="polite"></p>
    </div>
    {rows_board('<p class="row-name"></p><p class="row-settings"></p>', T)}
  </div>
  {why("wrong")}
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
    images = min(ROW_IMAGES, service.max_images)
    return rows_panel(html, "wrong", service, faults=faults, first=FIRST_FAULT, images=images)
