"""Images for people: sample grids, the strip of one trajectory, training.png, and the plots of an evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpm.files import replacing
from ddpm.metrics import memorises
from ddpm.sampling import ReverseStep

STRIP_STEPS = 250  # more steps change nothing that can be seen in the strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def to_pixels(x: Tensor) -> np.ndarray:
    """(..., C, H, W) float, about in [-1, 1], to (..., H, W, C) uint8."""
    pixels = ((x.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).numpy()


def save_image(image: Image.Image, path: Path) -> None:
    """Save as PNG; a file that was there is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        image.save(temporary, "PNG", optimize=True)


def new_figure(width: float, height: float) -> Figure:
    """An empty matplotlib figure, in inches. Without pyplot there is no global state, so any thread may draw it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure of `new_figure` as PNG with 256 colours, which halves the file: it travels with every model."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with warnings.catch_warnings(action="ignore"):  # a letter that no font here has is drawn as a box
        canvas.draw()
    save_image(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256), path)


def _slope(pixels: np.ndarray) -> float:
    """The height of an image, (H, W, C), over its width."""
    return pixels.shape[0] / pixels.shape[1]


GAP = 0.06  # between two tiles, in widths of a tile


def tiles(
    figure: Figure,
    rows: Sequence[Sequence[np.ndarray]],
    *,
    titles: Sequence[str] = (),
    labels: Sequence[str] = (),
    below: Sequence[Sequence[str]] = (),
    size: float = 9,
) -> None:
    """Show rows of images, (H, W, C) uint8 each. All share one pair of axes, since a pair for each takes seconds.

    Args:
        titles: above the images of the first row.
        labels: to the left of the rows.
        below: below the images of each row; empty text for none.
        size: of the titles in points.
    """
    height = _slope(rows[0][0]) + (0.2 if below else 0)  # of a row, with what is below it
    axes = figure.subplots()
    for r, images in enumerate(rows):
        for c, pixels in enumerate(images):
            top, tall = r * (height + GAP), _slope(pixels)
            left = c * (1 + GAP)
            place = (left, left + 1, top + tall, top)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=place)
            if below and below[r][c]:
                axes.text(left + 0.5, top + tall + 0.02, below[r][c], ha="center", va="top", fontsize=7)
    for c, title in enumerate(titles):
        axes.text(c * (1 + GAP) + 0.5, -0.04, title, ha="center", va="bottom", fontsize=size)
    if labels:
        engine: Any = figure.get_layout_engine()
        engine.set(rect=(0.02, 0, 0.98, 1))  # the layout takes the labels for a little shorter than they are
    for r, label in enumerate(labels):
        middle = r * (height + GAP) + _slope(rows[0][0]) / 2
        axes.text(-0.12, middle, label, ha="right", va="center", fontsize=size + 1)
    axes.set(xlim=(0, max(map(len, rows)) * (1 + GAP) - GAP), ylim=(len(rows) * (height + GAP) - GAP, 0))
    axes.set_axis_off()


# ------------------------------------------------------------------------------------------------- strip.png


def strip_steps(num_train_timesteps: int, trained: int) -> int:
    """In how many sampling steps the trajectory of strip.png is drawn; the picture shows eleven moments of it.

    The network sees two images in each of them, and at least one image, forwards and backwards, in an optimizer step.
    So the strip never takes longer than the training before it, and it is the same picture however fast the machine is.

    Args:
        num_train_timesteps: T.
        trained: optimizer steps so far.
    """
    return max(1, min(num_train_timesteps, STRIP_STEPS, trained))


def save_strip(steps: Iterable[ReverseStep], path: Path, columns: int = 11, images: int = 2) -> None:
    """The images x_t above x0_hat along one reverse trajectory, noise on the left, each under its t (1-based).

    Raises:
        InterruptedError: the trajectory ends before its last step.
    """
    chosen, complete = [], False  # what is not shown is not kept: a thousand steps of large images fill the memory
    for step in steps:
        complete = step.index + 1 == step.num_steps
        if step.index in np.linspace(0, step.num_steps - 1, columns - 1).round():
            chosen.append(step)
    if not complete:
        raise InterruptedError("sampling was cancelled")
    titles = [f"t = {step.t + 1}" for step in chosen] + ["t = 0"]
    labels, rows = [], []
    for i in range(min(images, chosen[0].xt.shape[0])):
        for label, shown in ((r"$x_t$", [s.xt for s in chosen]), (r"$\hat{x}_0$", [s.x0_hat for s in chosen])):
            labels.append(label)
            rows.append([to_pixels(x[i]) for x in (*shown, chosen[-1].x_prev)])
    figure = new_figure(1.0 * len(titles) + 0.4, (1.0 * _slope(rows[0][0]) + 0.05) * len(rows) + 0.3)
    tiles(figure, rows, titles=titles, labels=labels)
    save_figure(figure, path)


# ------------------------------------------------------------------------------------------------- training.png


def save_training_plot(rows: list[dict[str, Any]], path: Path, title: str, reference: float | None = None) -> None:
    """Loss against step, and training loss by timestep. Nothing is written before there is a loss.

    Args:
        rows: of metrics.jsonl.
        reference: the held-out loss that the preset reaches on its own dataset, if this is that dataset.
    """
    train = [row for row in rows if row["kind"] == "train" and row["loss"] is not None]
    if not train:
        return
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _plot_losses(left, train, [row for row in rows if row["kind"] == "validation"], reference)
    name = title.encode(errors="surrogateescape").decode(errors="backslashreplace")  # a folder's name may be any bytes
    left.set_title(name, parse_math=False)  # and hold dollars, and letters that no font here has
    _plot_deciles(right, train)
    save_figure(figure, path)


def _plot_losses(
    axes: Axes, train: list[dict[str, Any]], validation: list[dict[str, Any]], reference: float | None
) -> None:
    """Training and held-out loss against the step."""
    steps, losses = ([row[name] for row in train] for name in ("step", "loss"))
    axes.plot(steps, losses, color="0.7", lw=0.8, label="train, by logging window")
    axes.plot(steps, _smooth(losses), color="tab:blue", lw=1.6, label="train, smoothed")
    if validation:
        at, raw, ema = ([row[name] for row in validation] for name in ("step", "val_loss", "val_loss_ema"))
        axes.plot(at, raw, "o-", ms=3, color="tab:orange", label="held out, raw weights")
        axes.plot(at, ema, "o-", ms=3, color="tab:green", label=f"held out, EMA weights: {ema[-1]:.4f}")
        told = [(row["step"], row[name]) for row in validation if (name := "val_loss_ema_with_labels") in row]
        if told:
            line = f"held out, EMA weights, with labels: {told[-1][1]:.4f}"
            axes.plot(*zip(*told, strict=True), "o-", ms=3, color="tab:purple", label=line)
    learnt = [(row["step"], row["train_loss_ema"]) for row in validation if "train_loss_ema" in row]
    if learnt:
        line = f"training images, EMA weights: {learnt[-1][1]:.4f}"
        axes.plot(*zip(*learnt, strict=True), "o--", ms=3, color="tab:green", mfc="white", label=line)
    begun = next((row["step"] for row in validation if memorises(row)), None)
    if begun is not None:
        axes.axvline(begun, color="tab:red", ls=":", lw=1.2, label=f"begins to memorise: step {begun}")
    if reference:
        axes.axhline(reference, color="0.4", ls="--", lw=1, label=f"the preset as measured: {reference:.4f}")
    # On linear axes the first steps would take all the room, and the rest would be a flat line.
    axes.set(xlabel="optimizer step", ylabel=r"$\epsilon$-MSE ($L_{simple}$, Eq. 14)", xscale="log", yscale="log")
    bits = [(row["step"], row["val_bits"]) for row in validation if "val_bits" in row]
    if bits:
        right, label = axes.twinx(), f"bound, held out, EMA weights: {bits[-1][1]:.3f} (right axis)"
        (line,) = right.plot(*zip(*bits, strict=True), "o-", ms=3, color="tab:red")
        axes.plot([], [], "o-", ms=3, color=line.get_color(), label=label)  # all names in one legend
        right.set(ylabel="bits/dim", yscale="log")
        axes.set_zorder(right.get_zorder() + 1)  # or its curve would lie over the legend
        axes.patch.set_visible(False)
        _plain_log_axes(right)
        right.grid(False)  # one grid is enough
    axes.legend(fontsize=8)
    _plain_log_axes(axes)


def _plot_deciles(axes: Axes, train: list[dict[str, Any]]) -> None:
    """Training loss by timestep, in tenths of T: of the first tenth of the rows, and of the last fifth."""
    found = (row.get("loss_by_decile") or [None] * 10 for row in train)
    deciles = np.array([[np.nan if v is None else v for v in row] for row in found], float)
    for part, color in (
        (slice(0, max(1, len(train) // 10)), "0.75"),
        (slice(-max(1, len(train) // 5), None), "tab:blue"),
    ):
        first, last = train[part][0]["step"], train[part][-1]["step"]
        axes.plot(
            np.arange(10) + 0.5,
            _mean(deciles[part]),
            "o-",
            ms=4,
            color=color,
            label=f"steps {first} to {last}" if first < last else f"step {last}",
        )
    axes.set(xlabel="t, in tenths of T (noise to the right)", yscale="log", title="training loss by timestep")
    axes.set_xticks(range(11), [f"{i / 10:g}" for i in range(11)])
    axes.legend(fontsize=8)
    _plain_log_axes(axes)


# ------------------------------------------------------------------------------------------------- evaluation


def save_elbo_plot(figures: dict[str, Any], path: Path) -> None:
    """By timestep (1-based): the KL terms, the epsilon-MSE, and the weight that turns one into the other (Eq. 12).

    Args:
        figures: a report of ddpm.evaluate.
    """
    values = {k: np.array([np.nan if v is None else v for v in figures[k]]) for k in ("kl_bits", "eps_mse")}
    weight, t = np.array(figures["kl_weight_bits"]), np.arange(1, len(figures["eps_mse"]) + 1)
    figure = new_figure(12, 3.8)
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
    error = figures["bits_per_dim_se"]
    figure.suptitle(
        f"{figures['model']}: {figures['bits_per_dim']:.3f}{'' if error is None else f' ± {error:.3f}'} bits/dim = "
        f"{terms[0]:.1e} ($L_T$) + {terms[1]:.3f} (sum of $L_{{t-1}}$) + {terms[2]:.3f} ($L_0$)",
        fontsize=11,
    )
    save_figure(figure, path)


def save_neighbours(rows: list[np.ndarray], distances: np.ndarray, path: Path) -> None:
    """In each row a sample and the training images that are most like it, nearest first.

    Args:
        rows: (1 + k, C, H, W) uint8 each.
        distances: (rows, k), from the sample to each training image.
    """
    below = [["", *(f"{length:.3f}" for length in lengths)] for lengths in distances]
    images = [list(each.transpose(0, 2, 3, 1)) for each in rows]
    figure = new_figure(0.95 * len(rows[0]) + 0.2, (0.95 * _slope(images[0][0]) + 0.13) * len(rows) + 0.3)
    tiles(figure, images, titles=("sample", "nearest"), below=below, size=8)
    save_figure(figure, path)


def save_labelled(
    rows: Sequence[Sequence[np.ndarray]], names: Sequence[str], scales: Sequence[float], path: Path
) -> None:
    """Samples with a row for each guidance scale and a column for each class, each column from the same noise.

    Args:
        rows: (H, W, C) uint8 images.
    """
    figure = new_figure(0.95 * len(names) + 0.9, 0.95 * _slope(rows[0][0]) * len(rows) + 0.4)
    titles = [name if len(name) <= 12 else f"{name[:11]}…" for name in names]
    tiles(figure, rows, titles=titles, labels=[f"s = {scale:g}" for scale in scales])
    save_figure(figure, path)


def save_guidance_plot(figures: dict[str, Any], model: str, path: Path) -> None:
    """Quality against obedience: the Fréchet distance over the label accuracy, a point for each guidance scale.

    Args:
        figures: of the samples, by an evaluation of a class-conditional model.
        model: its name.
    """
    rows = figures["by_guidance_scale"]
    guided = [row for row in rows if row["guidance_scale"] > 0]
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    accuracy, distance = ([row[key] for row in guided] for key in ("label_accuracy", "frechet_distance"))
    axes.plot([100 * share for share in accuracy], distance, "o-", color="tab:blue", lw=1.2, ms=5)
    for row, x, y in zip(guided, accuracy, distance, strict=True):
        axes.annotate(f"s = {row['guidance_scale']:g}", (100 * x, y), (8, -12), textcoords="offset points", fontsize=9)
    if "frechet_distance_without_label" in figures:
        axes.axhline(
            figures["frechet_distance_without_label"], color="tab:orange", ls="--", lw=1, label="s = 0, no label"
        )
    axes.axhline(figures["frechet_distance_real"], color="0.4", ls=":", lw=1, label="real images")
    axes.set(
        xlabel="samples with the label that was asked for, in %",
        ylabel="Fréchet distance (lower is better)",
        title=f"{model}: quality against obedience",
        yscale="log",
    )
    axes.margins(0.12)
    room = max(0.5, 12 * (max(accuracy) - min(accuracy)))
    axes.set_xlim(100 * min(accuracy) - room, min(100 * max(accuracy) + 1.5 * room, 100 + room))
    axes.legend(fontsize=8)
    _plain_log_axes(axes)
    save_figure(figure, path)


# ------------------------------------------------------------------------------------------------- arithmetic and axes


def _plain_log_axes(axes: Axes) -> None:
    """A grid, and plain numbers at 1, 2 and 5 of each decade of logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over rows, each column without its NaNs; a logging window has NaN for a decile without a timestep."""
    counts = (~np.isnan(values)).sum(0)
    return np.where(counts > 0, np.nansum(values, 0) / np.maximum(counts, 1), np.nan)


def _smooth(values: list[float], share: float = 0.05) -> np.ndarray:
    """A centred running mean.

    Its window is a share of the steps so far, so it looks equally wide along a logarithmic axis.
    """
    sums = np.cumsum([0.0, *values])
    middle = np.arange(len(values))
    half = np.minimum((middle * share).astype(int), len(values) - 1 - middle)
    return (sums[middle + half + 1] - sums[middle - half]) / (2 * half + 1)
