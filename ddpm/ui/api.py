"""The public endpoints, for gradio_client, plain HTTP and MCP: /q_sample, /predict_noise, /sample, /elbo_terms,
/classify and /inpaint.

Pictures are nested lists: rows of pixels, each a number, or three for a colour model. x_0 is given in pixel values,
0 to 255, so that it is exact; noisy pictures are given as the network sees them, where pixel p is p / 127.5 - 1.

What they compute is in `server.answers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import gradio as gr
import numpy as np

from ddpm.names import ETA_SAMPLERS, JUMPS, MAX_SCALE, SAMPLERS
from ddpm.tiles import grid
from ddpm.ui.endpoints import Argument, Endpoint, ToolForm
from ddpm.ui.gradio import add_endpoint
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.encoding import png_to_base64
from ddpm.ui.server.examples import FIRST_STEPS
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.requests import FILLERS, MAX_JUMPS, MAX_SEED, NOISE_LIMIT, InputError
from ddpm.ui.server.visitors import StoppedError

Answer = dict[str, Any]


def add(blocks: gr.Blocks, models: Catalogue) -> None:
    """Add the endpoints to Blocks that are being built."""
    for name, described in descriptions(*models.usable).items():
        add_endpoint(blocks, name, partial(_refusing, partial(models.call, name)), described)


def _refusing(do: Callable[..., Answer], **arguments: object) -> Answer:
    """What `do` returns. A refusal becomes the error that Gradio hands to the caller, and no line in the log."""
    try:
        return do(**arguments)
    except InputError as refused:
        raise gr.Error(str(refused), print_exception=False) from None
    except StoppedError:
        raise gr.Error("stopped, since nobody waits for the answer or the server ends", print_exception=False) from None


# ------------------------------------------------------------------------------------------------------- descriptions

NUMBER = {"type": "number"}
NUMBERS = {"type": "array", "items": NUMBER}
BY_LABEL = {"type": "object", "additionalProperties": NUMBER}
LIGHT = {"concurrency_id": "api-light", "concurrency_limit": 4}
HEAVY = {"concurrency_id": "api-heavy", "concurrency_limit": 1}


def descriptions(*models: Facts) -> dict[str, Endpoint]:
    """What callers may rely on, for these models: by name, in the order in which the documentation lists them."""
    T = max(facts.num_steps for facts in models)
    rows_of = _by_model(models, lambda facts: _pictures_of(facts)[0])
    if len({facts.shape[2] for facts in models}) == 1:
        _, nested, pixels, floats = _pictures_of(models[0])
    else:
        pixel = {"anyOf": [NUMBER, NUMBERS]}
        nested = {"type": "array", "items": {"type": "array", "items": pixel}}
        pixels, floats = list[list[int | list[int]]], list[list[float | list[float]]]

    t_means = f"timestep, a whole number from 1 (almost clean) to {_steps(models)} (noise)"
    t = Argument(int, t_means, range=(1, T))
    x0_means = f"clean picture, {rows_of}, whole and from 0 to 255; left out: the first example of the page"
    x0 = Argument(pixels | None, x0_means, default=None)
    xt_means = f"noisy picture, {rows_of}, from -{NOISE_LIMIT} to {NOISE_LIMIT}, where pixel p is p / 127.5 - 1"
    xt = Argument(floats, xt_means)
    names = ", ".join(facts.name for facts in models)
    model_means = f"name of the model, one of {names}; empty: {models[0].name}"
    if len(models) == 1:
        model_means = f"name of the model; here is one alone, {names}, so it can be empty"
    model = Argument(str, model_means, default="", late=True)
    seed_means = f"of the noise, a whole number from 0 to {MAX_SEED}; the same seed gives the same answer"
    seed = Argument(int, seed_means, default=0, range=(0, MAX_SEED))
    return {
        "q_sample": Endpoint(
            "Noise a picture: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 4 of arXiv 2006.11239.",
            {"t": t, "x0": x0, "seed": seed, "model": model},
            "xt and eps (standard normal), in rows as x0; alpha_bar of t",
            {"xt": nested, "eps": nested, "alpha_bar": NUMBER},
            **LIGHT,
        ),
        "predict_noise": Endpoint(
            "What the network says of a noisy picture: its noise, and the clean picture that follows from it (Eq. 15).",
            {"xt": xt, "t": t, "model": model},
            "eps_hat and x0_hat (not clipped to -1 ... 1), in rows as xt",
            {"eps_hat": nested, "x0_hat": nested},
            **LIGHT,
        ),
        "sample": Endpoint(
            "Draw pictures from noise. The same arguments give the same pictures.",
            {**_sample_arguments(models, seed), "model": model},
            f"images, each of {rows_of} from 0 to 255; seconds it took to draw them",
            {"images": {"type": "array", "items": nested}, "seconds": NUMBER},
            **HEAVY,
            tool=ToolForm(picture=_picture),
        ),
        "elbo_terms": Endpoint(
            "Every term of the variational bound of one picture (Eq. 5), in bits per dimension: an upper bound on the "
            "length of its code.",
            {"x0": x0, "seed": seed, "model": model},
            f"prior (L_T); kl (L_t-1 of t = 2 ... {T}); reconstruction (L_0); total, their sum; "
            f"eps_mse (mean squared error of the predicted noise, t = 1 ... {T})",
            {"prior": NUMBER, "kl": NUMBERS, "reconstruction": NUMBER, "total": NUMBER, "eps_mse": NUMBERS},
            **HEAVY,
            tool=ToolForm(
                summary=_without_terms,
                whole=("terms", "whether kl and eps_mse list every timestep; else their sum and mean are given"),
            ),
        ),
        "classify": Endpoint(
            "Which label a picture has, by the bound of a model with labels: every label is tried with the same noise, "
            "and the one with which the picture costs the fewest bits is the most probable (arXiv 2303.16203)."
            + _without_classes(models),
            {"x0": x0, "seed": seed, "model": model},
            "probabilities, p(label | x0) of each label, which sum to 1; bits that each label saves against no label, "
            "in bits per dimension, less than 0 where it costs some",
            {"probabilities": BY_LABEL, "bits": BY_LABEL},
            **HEAVY,
        ),
        "inpaint": Endpoint(
            "Fill in a part of a picture, each time differently, and leave all other pixels as they are (RePaint, "
            "arXiv 2201.09865). The same arguments give the same pictures.",
            {**_inpaint_arguments(models, x0, seed), "model": model},
            f"images, each of {rows_of} from 0 to 255; seconds it took to draw them",
            {"images": {"type": "array", "items": nested}, "seconds": NUMBER},
            **HEAVY,
            tool=ToolForm(picture=_picture),
        ),
    }


def _by_model(models: Sequence[Facts], of: Callable[[Facts], str]) -> str:
    """A text that depends on the model: by itself if it is the same for all, else each with the names of its models."""
    names: dict[str, list[str]] = {}
    for facts in models:
        names.setdefault(of(facts), []).append(facts.name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{text} ({', '.join(these)})" for text, these in names.items())


def _steps(models: Sequence[Facts]) -> str:
    """T of the models."""
    return _by_model(models, lambda facts: str(facts.num_steps))


def _pictures_of(facts: Facts) -> tuple[str, dict[str, Any], Any, Any]:
    """The form of a model's pictures: in words, as a JSON schema, and the types of whole pixels and of floats."""
    height, width, channels = facts.shape
    if channels == 1:
        nested = {"type": "array", "items": NUMBERS}
        return f"{height} rows of {width} numbers", nested, list[list[int]], list[list[float]]
    nested = {"type": "array", "items": {"type": "array", "items": NUMBERS}}
    rows_of = f"{height} rows of {width} pixels (red, green, blue)"
    return rows_of, nested, list[list[list[int]]], list[list[list[float]]]


def _without_classes(models: Sequence[Facts]) -> str:
    """The models that refuse to name a label, as a sentence; empty if all have labels."""
    without = [facts.name for facts in models if not facts.classes]
    if len(models) == 1 and without:
        return " This model has no labels, so every call is refused."
    return f" Without labels, and so refused: {', '.join(without)}." if without else ""


def _picture(drawn: Answer) -> str:
    """The pictures of a `/sample` side by side: PNG in base64, magnified so that people can see them."""
    pixels = np.array(drawn["images"], np.uint8)
    pixels = pixels.reshape(*pixels.shape[:3], -1)  # gray pictures have no axis for their one channel
    return png_to_base64(grid(pixels, math.ceil(math.sqrt(len(pixels)))))


def _without_terms(bound: Answer) -> Answer:
    """The parts of a bound, and its terms summed up."""
    parts = {name: bound[name] for name in ("prior", "reconstruction", "total")}
    return {
        **parts,
        "kl_sum": math.fsum(bound["kl"]),
        "eps_mse_mean": math.fsum(bound["eps_mse"]) / len(bound["eps_mse"]),
    }


def _sample_arguments(
    models: Sequence[Facts], seed: Argument, samplers: tuple[str, ...] = SAMPLERS, default: str = "ddim"
) -> dict[str, Argument]:
    T = max(facts.num_steps for facts in models)
    most = max(facts.max_images for facts in models)
    steps_mean = f"calls of the network, a whole number from 1 to {_steps(models)}"
    images_mean = f"how many, a whole number from 1 to {_by_model(models, lambda facts: str(facts.max_images))}"
    first_steps = min(FIRST_STEPS, *(facts.num_steps for facts in models))
    noisy = " and ".join(sampler for sampler in samplers if sampler in ETA_SAMPLERS)
    return {
        "sampler": Argument(
            Literal[samplers], f"one of {', '.join(samplers)}; ddpm takes the model's own variance", default=default
        ),
        "num_inference_steps": Argument(int, steps_mean, default=first_steps, range=(1, T)),
        "num_images": Argument(int, images_mean, default=1, range=(1, most)),
        "seed": seed,
        "eta": Argument(
            float,
            f"share of fresh noise in {noisy}, from 0 to 1; other samplers ignore it",
            default=0.0,
            range=(0, 1),
        ),
        "label": Argument(str, _by_model(models, _labels_of), default=""),
        "guidance_scale": Argument(
            float,
            f"s in eps = eps_0 + s (eps_c - eps_0), from 0 (no label) to {MAX_SCALE:g}; 1 is the label without "
            "guidance; papers that write w mean s - 1; no effect without a label",
            default=1.0,
            range=(0, MAX_SCALE),
        ),
    }


def _inpaint_arguments(models: Sequence[Facts], x0: Argument, seed: Argument) -> dict[str, Argument]:
    """Those of `/sample`, and before them the picture, where it is filled in, and how."""
    rows, columns = (_by_model(models, lambda facts, k=k: str(facts.shape[k])) for k in (0, 1))
    mask_means = f"{rows} rows of {columns} numbers: 1 where the picture is filled in, 0 where its pixels stay"
    jumps_mean = (
        f"how often the sampler jumps back and takes the same steps again, so that the filling comes to fit what is "
        f"around it, a whole number from 0 to {MAX_JUMPS}; it takes about so many times longer"
    )
    return {
        "mask": Argument(list[list[int]], mask_means),
        "x0": x0,
        "jumps": Argument(int, jumps_mean, default=JUMPS, range=(0, MAX_JUMPS)),
        **_sample_arguments(models, seed, FILLERS, default="ddpm"),
    }


def _labels_of(facts: Facts) -> str:
    """What a model can be asked to draw, on one line, whatever a stranger has named."""
    classes = facts.classes
    if not classes:
        return "name of what to draw; this model has no labels, so it must be empty"
    return f"name of what to draw, one of {' '.join(classes.listed().split())}; empty: no label"
