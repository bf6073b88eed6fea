"""Tab "Forward": q(x_t | x_0), Eq. 4, beside other schedules. All of it is computed in the browser (forward.js)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from ddpm.ui.panels import panel
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.examples import FIRST_PICTURE, stored_pictures
from ddpm.ui.server.facts import Facts
from ddpm.ui.tabs.parts import (
    chart,
    code_name,
    colour_noise,
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

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

CODE = (
    f"{code_name('xt', 'xt')} = schedule.q_sample({code_name('x0', 'x0')}, {code_name('eps', 'eps')}, "
    f"{code_name('t', 'alpha_bar')})"
)


def _second(names: list[str], size: int) -> str:
    """The same picture and noise under another schedule, which is chosen in the caption."""
    options = "".join(f'<option value="{name}" data-text="schedule.{name}"></option>' for name in names)
    return f"""
<figure class="picture" data-object="xt_other">
  <figcaption>{key_line("other")}<select name="schedule" data-label="forward.schedule">{options}</select></figcaption>
  <canvas class="pixels" width="{size}" height="{size}" role="img"></canvas>
</figure>"""


def build(facts: Facts, models: Catalogue) -> gr.HTML:
    """The tab's contents. A model without stored examples shows samples of its own, fetched once they are drawn."""
    size = facts.resolution
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
      {_second(list(facts.schedules), size)}
    </div>
    {tools()}
    {t_bar(1, facts.num_steps)}
    <div class="compared">
      <p>{key_line("own")}<span class="own-says"></span></p>
      <p>{key_line("other")}<span class="other-says"></span></p>
      <p class="see"></p>
    </div>
  </div>
  {words("forward", "forward", CODE, colour_noise(facts.channels))}
  {why("forward")}
  <div class="charts">
    {chart("alpha_bar", "alpha_bar")}{chart("beta", "beta")}{chart("snr", "snr")}{chart("histogram")}
  </div>
  {quiz("forward", high=facts.num_steps)}
</section>"""

    def example_pictures(service: Service, _: object) -> dict | None:
        return service.example_pictures()

    stored = stored_pictures(facts)
    return panel(
        html,
        "forward.js",
        models,
        elem_id="forward",
        server_functions=[example_pictures],
        examples=None if stored is None else to_base64(stored),
        first=FIRST_PICTURE if stored is not None else 0,
        own=facts.own_schedule,
        schedules=facts.schedules,
    )
