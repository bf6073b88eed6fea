"""Pieces of HTML that every tab is made of, so that the same thing looks the same everywhere.

They carry keys of the texts and equations in data attributes; static/language.js fills in the words, again whenever the
language changes. They hold keys instead of TeX because Gradio evaluates HTML as a JavaScript template string, in which
no backslash, backtick or dollar brace may stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ddpm.class_names import Named
from ddpm.names import MAX_SCALE, SAMPLERS
from ddpm.ui.server.requests import MAX_SEED

READABLE = ",".join(
    f"image/{kind}" for kind in "png jpeg webp gif bmp avif".split()
)  # what Chromium and Firefox decode

LEGEND = '<span class="legend" role="img" data-label="part.legend"><i>&minus;3</i><b></b><i>3</i></span>'


def text(key: str, tag: str = "span", css: str = "") -> str:
    """An element that shows the string of `key`."""
    return f'<{tag} class="{css}" data-text="{key}"></{tag}>'


def literal(name: str) -> str:
    """A name as HTML. Gradio evaluates HTML as a template, and a name from the Hub may hold special characters."""
    return "".join(f"&#{ord(c)};" if c in "`$\\{}" else escape(c) for c in name)


def tex(name: str) -> str:
    """A symbol or an equation of `text.EQUATIONS`."""
    return f'<span class="tex" data-tex="{name}"></span>'


def headline(tab: str) -> str:
    """The question of a tab. What visitors play with follows it, and then `words`, so a phone shows both at once."""
    return text(f"{tab}.question", "h2")


def words(tab: str, equation: str, code: str, more: str = "") -> str:
    """What a tab says: two sentences, one equation, one line of our code, one thing to try.

    Args:
        code: HTML in which `code_name` ties a name to the picture that it stands for.
        more: HTML that stands below.
    """
    return f"""
<div class="words">
  {text(f"{tab}.body", "p")}
  <div class="equation">{tex(equation)}</div>
  <div class="code">{text("part.code", css="tag")}<code>{code}</code></div>
  <p class="try">{text("part.try", css="tag")}{text(f"{tab}.try")}</p>{more}
</div>"""


def colour_noise(channels: int) -> str:
    """What the pictures of noise show of three channels; nothing for gray pictures."""
    return text("part.colour_noise", "p") if channels == 3 else ""


def why(tab: str) -> str:
    """The fold with the longer explanation, across the whole tab."""
    return f'<details><summary data-text="part.why"></summary><div data-paragraphs="{tab}.why"></div></details>'


def quiz(tab: str, answers: Sequence[str] = (), low: int = 1, high: int = 0) -> str:
    """The question at the end of a tab, which visitors answer before the page does (`ddpm.quiz`).

    Args:
        tab: has the texts `tab`.quiz, `tab`.quiz.<answer> of each answer, and those with which the script answers.
        answers: to choose from; without them the guess is a whole number from `low` to `high`, `tab`.quiz.guess.
    """
    if answers:
        guess = switch(f"{tab}.quiz", {value: text(f"{tab}.quiz.{value}") for value in answers})
    else:
        field = f'<input type="number" min="{low}" max="{high}" step="1">'
        guess = f"<label>{text(f'{tab}.quiz.guess')} {field}</label>"
    return f"""
<div class="quiz">
  <p>{text("quiz.title", css="tag")}{text(f"{tab}.quiz")}</p>
  <div class="guess">{guess}<button type="button" class="reveal" disabled>{text("quiz.reveal")}</button></div>
  <p class="revealed" role="status"></p>
</div>"""


def code_name(name: str, of: str) -> str:
    """A name in a line of code that outlines the picture `of` on hover or focus."""
    return f'<i data-of="{of}" tabindex="0">{escape(name)}</i>'


def caption(symbol: str, key: str, before: str = "") -> str:
    """The line over a picture: its symbol and a word or two, and for noise the scale of its colours.

    Args:
        before: HTML that stands before the symbol.
    """
    scale = LEGEND if symbol in ("eps", "eps_hat") else ""
    return f"<figcaption>{before}{tex(symbol)}{text(key)}{scale}</figcaption>"


def key_line(name: str) -> str:
    """A piece of the line that stands for a schedule in the charts; the style sheet draws `name`, "own" or "other"."""
    return f'<i class="key-line {name}" aria-hidden="true"></i>'


def picture(of: str, key: str, size: int, before: str = "") -> str:
    """An image of size x size pixels, enlarged by nearest neighbour; `of`, `key` and `before` make its `caption`."""
    return f"""
<figure class="picture" data-object="{of}">
  {caption(of, key, before)}
  <canvas class="pixels" width="{size}" height="{size}" role="img" data-label="{key}.label"></canvas>
</figure>"""


def along(size: int, says: str = "part.along", *, noise: bool = False) -> str:
    """The visitor's picture on a tab without a pad, and the same noised to t. `ddpm.along` brings it to life.

    Args:
        says: key of the text that tells what it does there.
        noise: show the noise, too.
    """
    eps = picture("eps", "forward.eps", size) if noise else ""
    return f"""
<div class="along">
  {picture("x0", "part.along.x0", size)}{eps}{picture("xt", "part.along.xt", size)}
  {text(says, "p")}
</div>"""


def switch(key: str, choices: dict[str, str]) -> str:
    """A choice between a few buttons in a row.

    Args:
        key: of the name of the choice; the name of each button has the key `key`.value.
        choices: HTML of each button, by value.
    """
    buttons = "".join(
        f'<button type="button" data-value="{value}" data-label="{key}.{value}" aria-pressed="false">{shown}</button>'
        for value, shown in choices.items()
    )
    return f'<div class="switch" role="group" data-label="{key}">{buttons}</div>'


def pad(size: int) -> str:
    """The picture x_0, on which visitors draw. `ddpm.picker` brings it to life, together with `tools`."""
    return f"""
<figure class="picture" data-object="x0">
  {caption("x0", "forward.x0")}
  <canvas class="pixels pad" width="{size}" height="{size}" role="img" data-label="forward.x0.label"></canvas>
</figure>"""


def tools() -> str:
    """The other ways to set the picture and its noise, in all tabs at once: examples, clear, a file, new noise."""
    return f"""
<div class="tools">
  <div class="examples" role="group" data-label="forward.examples"></div>
  <div class="buttons">
    <button type="button" class="clear">{text("forward.clear")}</button>
    <label class="button">{text("forward.upload")}
      <input type="file" accept="{READABLE}" data-label="forward.upload.label"></label>
    <button type="button" class="renoise">{text("forward.noise")}</button>
  </div>
</div>
<p class="status picker-status" role="status" aria-live="polite"></p>"""


def figure(name: str, tag: str = "b") -> str:
    """A place for a number that changes at every move, in a box whose size stays (in the style sheet)."""
    return f'<span class="figure of-{name}"><{tag} class="{name}"></{tag}></span>'


def t_bar(low: int, high: int) -> str:
    """The slider of t from clean (left) to noise (right), over a strip of alpha-bar; t, alpha-bar and SNR beside it.

    Args:
        low: 1, or 0 if the slider also reaches the finished sample.
    """
    return f"""
<div class="t-bar">
  <div class="t-track">
    <input type="range" min="{low}" max="{high}" step="1" data-label="t.slider">
    <div class="t-strip" aria-hidden="true"></div>
    <div class="t-ends" aria-hidden="true">{text("t.clean")}{text("t.noise")}</div>
  </div>
  <div class="t-read" aria-hidden="true">
    <span>{tex("t")}={figure("t-now")}</span>
    <span>{tex("alpha_bar")}={figure("ab-now")}</span>
    <span>{text("t.snr", css="unit")}={figure("snr-now")}</span>
  </div>
</div>"""


def player(num_steps: int) -> str:
    """Buttons to play in both directions, the slider of t, and the speed. `ddpm.player` brings them to life."""
    return f"""
<div class="player">
  <div class="plays">
    <button type="button" class="play reverse-way" data-label="reverse.play"></button>
    <button type="button" class="play forward-way" data-label="reverse.play_back"></button>
  </div>
  {t_bar(0, num_steps)}
  <label class="speed"><select data-label="reverse.speed">
    <option value="0.5">&frac12;&times;</option><option value="1" selected>1&times;</option>
    <option value="2">2&times;</option><option value="4">4&times;</option></select></label>
</div>"""


def sampler_options() -> str:
    """The options of a <select name="sampler">."""
    return "".join(f'<option value="{name}" data-text="sampler.{name}"></option>' for name in SAMPLERS)


def step_options(choices: Iterable[int], num_steps: int, selected: int | None = None) -> str:
    """The options of a <select name="num_inference_steps">: the choices below T = num_steps, and T itself."""
    steps = [n for n in choices if n < num_steps] + [num_steps]
    return "".join(f"<option{' selected' if n == selected else ''}>{n}</option>" for n in steps)


def label_fields(classes: Named | None, scale: str = text("reverse.scale")) -> str:
    """The label to ask for and its guidance scale, which is hidden while there is no label; nothing for a model without
    labels. `ddpm.labelling` brings them to life.

    Args:
        scale: HTML that names the guidance scale.
    """
    if classes is None:
        return ""
    return f"""
<label class="of-label">{text("reverse.label")}<select name="label" data-label="reverse.label"></select></label>
<label class="of-scale" hidden>{scale}<input name="guidance_scale" type="number"
  min="0" max="{MAX_SCALE:g}" step="0.5" value="1" title="" data-label="reverse.scale.label"></label>"""


def rows_board(head: str, num_steps: int) -> str:
    """Rows of pictures from one noise, with one slider for all; they all show x_t, x0_hat or eps_hat (`ddpm.rows`).

    Args:
        head: HTML that stands beside each row.
    """
    planes = {name: tex(name) for name in ("xt", "x0_hat", "eps_hat")}
    return f"""
<template><div class="row" role="group">
  <div class="row-head">{head}</div>
  <div class="row-pictures"><div class="grid" role="img"></div><p class="figures"></p></div>
</div></template>
<div class="progress" aria-hidden="true"><i></i></div>
<div class="view">{switch("rows.plane", planes)}<span class="plane-name"></span>{LEGEND}</div>
<div class="rows"></div>
{player(num_steps)}"""


def sampling_controls(most: int, images: int, seed: int, go: str) -> str:
    """The end of every form that samples: number of pictures, seed, new seed, the buttons to start and to stop.

    Args:
        most: the highest number of pictures.
        images, seed: what the form begins with.
        go: key of the text of the button that starts.
    """
    return f"""
<label>{text("reverse.images")}<input name="num_images" type="number" min="1" max="{most}" value="{images}"></label>
<label>{text("reverse.seed")}<input name="seed" type="number" min="0" max="{MAX_SEED}" value="{seed}"></label>
<button type="button" class="new-seed" data-label="reverse.new_seed">&#x21bb;</button>
<button type="submit" class="primary go">{text(go)}</button>
<button type="button" class="primary stop" hidden>{text("reverse.stop")}</button>"""


def chart(name: str, symbol: str = "") -> str:
    """A curve against t with a mark that moves (`ddpm.tChart`), or the frame of another small plot."""
    return f"""
<figure class="chart" data-chart="{name}">
  <figcaption>{tex(symbol) if symbol else ""}{text(f"chart.{name}")}{figure("now", "output")}</figcaption>
  <div class="plot" role="img"></div>
  <div class="axis" aria-hidden="true"><span></span><span></span><span></span></div>
</figure>"""
