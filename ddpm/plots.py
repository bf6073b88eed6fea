"""Pictures for people: sample grids, the strip of one trajectory, training.png, and the plots of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm.sampling import ReverseStep


def to_pixels(x: Tensor) -> np.ndarray:
    """(..., C, H, W) in about [-1, 1] to (..., H, W, C) uint8."""
    pixels = ((x.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).numpy()


def grid(images: np.ndarray, columns: int, gap: int = 2, background: int = 90) -> Image.Image:
    """(N, H, W, C) uint8 tiles, row by row, magnified to about 64 px a tile.

    By whole pixels; below 16 px smoothly, since nobody reads a handwritten digit in 8 x 8 squares.
    """
    n, height, width, channels = images.shape
    scale = max(1, round(64 / height))
    filter = Image.Resampling.BICUBIC if height < 16 else Image.Resampling.NEAREST
    # The gap is drawn after magnifying: digits fill their square, and would run into each other without it.
    h, w = height * scale + gap, width * scale + gap
    canvas = Image.new("L" if channels == 1 else "RGB", (columns * w + gap, -(-n // columns) * h + gap))
    canvas.paste(background if channels == 1 else (background,) * 3, (0, 0, *canvas.size))
    for i, pixels in enumerate(images):
        tile = Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)
        tile = tile.resize((width * scale, height * scale), filter)
        canvas.paste(tile, ((i % columns) * w + gap, (i // columns) * h + gap))
    return canvas


def save_image(image: Image.Image, path: Path) -> None:
    """As PNG, replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    image.save(temporary, "PNG", optimize=True)
    os.replace(temporary, path)


def _figure(width: float, height: float):
    # Without pyplot: no global state, so it works in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _save_figure(figure, path: Path) -> None:
    figure.canvas.draw()
    # A palette halves the file, which travels with every model.
    save_image(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB").quantize(256), path)


def save_strip(steps: Iterable[ReverseStep], path: Path, columns: int = 11, images: int = 2) -> None:
    """Pictures of x_t over x0_hat along one reverse trajectory, noise on the left, and t (1-based) above."""
    chosen = []  # of a thousand steps of large images, only what is shown is kept
    for step in steps:
        if step.index in np.linspace(0, step.num_steps - 1, columns - 1).round():
            chosen.append(step)
    names = [f"t = {s.t + 1}" for s in chosen] + ["t = 0"]
    rows = []
    for i in range(min(images, chosen[0].xt.shape[0])):
        rows.append((r"$x_t$", [s.xt[i] for s in chosen] + [chosen[-1].x_prev[i]]))
        rows.append((r"$\hat{x}_0$", [s.x0_hat[i] for s in chosen] + [chosen[-1].x_prev[i]]))
    figure = _figure(1.0 * len(names) + 0.4, 1.05 * len(rows) + 0.3)
    for r, (label, pictures) in enumerate(rows):
        for c, picture in enumerate(pictures):
            axes = figure.add_subplot(len(rows), len(names), r * len(names) + c + 1)
            axes.imshow(to_pixels(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if r == 0:
                axes.set_title(names[c], fontsize=9)
            if c == 0:
                axes.set_ylabel(label, rotation=0, labelpad=14, va="center", fontsize=11)
    _save_figure(figure, path)


def save_training_plot(rows: list[dict[str, Any]], path: Path, title: str, reference: float | None = None) -> None:
    """Loss against step, and training loss by timestep: training.png.

    Args:
        reference: held-out loss at the end of the preset's own run, where the data are the preset's.
    """
    train = [row for row in rows if row["kind"] == "train" and row["loss"] is not None]
    validation = [row for row in rows if row["kind"] == "validation"]
    if not train:
        return
    figure = _figure(11, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = [row["step"] for row in train]
    left.plot(steps, [row["loss"] for row in train], color="0.7", lw=0.8, label="train, by logging window")
    left.plot(steps, _smooth([row["loss"] for row in train]), color="tab:blue", lw=1.6, label="train, smoothed")
    if validation:
        at = [row["step"] for row in validation]
        left.plot(
            at, [row["val_loss"] for row in validation], "o-", ms=3, color="tab:orange", label="held out, raw weights"
        )
        ema = [row["val_loss_ema"] for row in validation]
        left.plot(at, ema, "o-", ms=3, color="tab:green", label=f"held out, EMA weights: {ema[-1]:.4f}")
    if reference:
        left.axhline(reference, color="0.4", ls="--", lw=1, label=f"the preset as measured: {reference:.4f}")
    left.set(xlabel="optimizer step", ylabel=r"$\epsilon$-MSE ($L_{simple}$, Eq. 14)", title=title)
    left.set(xscale="log", yscale="log")  # otherwise the first steps take the picture and the rest is a flat line
    left.legend(fontsize=8)
    _plain_log_axes(left)

    deciles = np.array([[np.nan if v is None else v for v in row["loss_by_decile"]] for row in train], float)
    for part, color in (
        (slice(0, max(1, len(train) // 10)), "0.75"),
        (slice(-max(1, len(train) // 5), None), "tab:blue"),
    ):
        first, last = train[part][0]["step"], train[part][-1]["step"]
        right.plot(np.arange(10) + 0.5, _mean(deciles[part]), "o-", ms=4, color=color, label=f"steps {first} to {last}")
    right.set(xlabel="t, in tenths of T (noise to the right)", yscale="log", title="training loss by timestep")
    right.set_xticks(range(11), [f"{i / 10:g}" for i in range(11)])
    right.legend(fontsize=8)
    _plain_log_axes(right)
    _save_figure(figure, path)


def save_elbo_plot(figures: dict[str, Any], path: Path) -> None:
    """By timestep (1-based): the KL terms, the epsilon-MSE, and the weight that turns one into the other.

    Args:
        figures: a report of ddpm.evaluate.
    """
    values = {k: np.array([np.nan if v is None else v for v in figures[k]]) for k in ("kl_bits", "eps_mse")}
    weight, t = np.array(figures["kl_weight_bits"]), np.arange(1, len(figures["eps_mse"]) + 1)
    figure = _figure(12, 3.8)
    for axes, x, y, title, color in zip(
        figure.subplots(1, 3),
        (t[1:], t, t[1:]),
        (values["kl_bits"], values["eps_mse"], weight[1:]),
        (r"$L_{t-1}$ in bits/dim", r"$\epsilon$-MSE, what $L_{simple}$ averages", r"weight $w_t$ (Eq. 12) in bits/dim"),
        ("tab:blue", "tab:green", "tab:orange"),
        strict=True,
    ):
        known = ~np.isnan(y)
        axes.plot(x[known], y[known], color=color, lw=1.2)
        axes.set(xlabel="t", xscale="log", yscale="log", title=title)
        axes.grid(alpha=0.25)
    terms = figures["prior_bits"], figures["kl_bits_total"], figures["reconstruction_bits"]
    figure.suptitle(
        f"{figures['model']}: {figures['bits_per_dim']:.3f} ± {figures['bits_per_dim_se']:.3f} bits/dim = "
        f"{terms[0]:.1e} ($L_T$) + {terms[1]:.3f} (sum of $L_{{t-1}}$) + {terms[2]:.3f} ($L_0$)",
        fontsize=11,
    )
    _save_figure(figure, path)


def save_neighbours(rows: list[np.ndarray], distances: np.ndarray, path: Path) -> None:
    """A sample and the training images most like it, row by row, nearest first.

    Args:
        rows: (1 + k, C, H, W) uint8 each. distances: (rows, k).
    """
    columns = len(rows[0])
    figure = _figure(0.95 * columns + 0.2, 1.08 * len(rows) + 0.3)
    for r, pictures in enumerate(rows):
        for c, picture in enumerate(pictures):
            axes = figure.add_subplot(len(rows), columns, r * columns + c + 1)
            axes.imshow(picture.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if c:
                axes.set_xlabel(f"{distances[r][c - 1]:.3f}", fontsize=7, labelpad=1)
            if r == 0:
                axes.set_title("sample" if c == 0 else "nearest in training" if c == 1 else "", fontsize=8)
    _save_figure(figure, path)


def _plain_log_axes(axes) -> None:
    """Plain numbers at 1, 2 and 5 of each decade of the axes that are logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over rows, without the deciles that a window did not meet."""
    counts = (~np.isnan(values)).sum(0)
    return np.where(counts > 0, np.nansum(values, 0) / np.maximum(counts, 1), np.nan)


def _smooth(values: list[float], share: float = 0.05) -> np.ndarray:
    """Centred running mean; the window is a share of the steps so far, as wide on a logarithmic axis at either end."""
    sums = np.cumsum([0.0, *values])
    middle = np.arange(len(values))
    half = np.minimum((middle * share).astype(int), len(values) - 1 - middle)
    return (sums[middle + half + 1] - sums[middle - half]) / (2 * half + 1)
