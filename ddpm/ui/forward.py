"""Tab "Forward": q(x_t | x_0), Eq. 4. All of it runs in the browser (static/forward.js)."""

from __future__ import annotations

import gradio as gr

from .examples import FIRST_DIGIT, example_digits
from .parts import chart, code_name, pad, panel, picture, t_bar, tex, tools, why, words
from .service import Service
from .store import to_base64

CODE = (
    f"{code_name('xt', 'xt')} = schedule.q_sample({code_name('x0', 'x0')}, {code_name('eps', 'eps')}, "
    f"{code_name('t', 'alpha_bar')})"
)


def build(service: Service) -> gr.HTML:
    """The tab's contents. A colour model has no digits: its examples are samples of its own, fetched when ready."""
    size = service.checkpoint.resolution
    html = f"""
<section class="tab forward">
  {words("forward", "forward", CODE)}
  <div class="stage">
    <div class="mix">
      {pad(size)}
      <div class="weight" data-object="alpha_bar">{tex("times")}<b class="signal"></b>{tex("plus")}</div>
      {picture("eps", "forward.eps", size)}
      <div class="weight" data-object="alpha_bar">{tex("times")}<b class="spread"></b>{tex("equals")}</div>
      {picture("xt", "forward.xt", size)}
    </div>
    {tools()}
    {t_bar(1, service.num_steps)}
  </div>
  {why("forward")}
  <div class="charts">
    {chart("alpha_bar", "alpha_bar")}{chart("beta", "beta")}{chart("snr", "snr")}{chart("histogram")}
  </div>
</section>"""

    def example_pictures(_: object) -> dict | None:  # a bound method cannot be marked as Gradio does it
        return service.example_pictures()

    digits = example_digits(size) if service.checkpoint.channels == 1 else None
    return panel(
        html,
        "forward.js",
        elem_id="forward",
        server_functions=[example_pictures],
        examples=None if digits is None else to_base64(digits),
        first=FIRST_DIGIT if digits is not None else 0,
    )
