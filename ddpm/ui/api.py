"""The public endpoints, for gradio_client, plain HTTP and MCP: /q_sample, /predict_noise, /sample, /elbo_terms,
/classify and /inpaint.

Pictures are nested lists: rows of pixels, each a number, or three for a colour model. x_0 is given in pixel values,
0 to 255, so that it is exact; noisy pictures are given as the network sees them, where pixel p is p / 127.5 - 1.

t is 1-based here, as in the paper, and 0-based in `ddpm.schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import gradio as gr
import numpy as np
import torch

from ddpm.guidance import MAX_SCALE
from ddpm.names import JUMPS
from ddpm.plots import grid
from ddpm.sampling import SAMPLERS
from ddpm.ui.endpoints import Argument, Endpoint, ToolForm
from ddpm.ui.gradio import add_endpoint
from ddpm.ui.server.encoding import png_to_base64
from ddpm.ui.server.examples import FIRST_STEPS
from ddpm.ui.server.from_picture import FILLERS, MAX_JUMPS, FillRequest
from ddpm.ui.server.models import Models
from ddpm.ui.server.pictures import pixels_to_tensor, to_tensor
from ddpm.ui.server.requests import (
    MAX_SEED,
    InputError,
    PictureRequest,
    SampleRequest,
    check_array,
    check_whole,
    label_named,
)
from ddpm.ui.server.service import Service
from ddpm.ui.server.visitors import StoppedError

NOISE_LIMIT = 20  # of |x_t|: nothing that q draws is further from 0

Answer = dict[str, Any]
InVain = Callable[[], bool]
"""Whether nobody waits for an answer any more."""


def add(blocks: gr.Blocks, models: Models) -> None:
    """Add the endpoints to Blocks that are being built."""
    for name, described in descriptions(*models.services).items():
        add_endpoint(blocks, name, partial(_refusing, partial(_of_model, models, name)), described)


def _of_model(models: Models, name: str, model: object = None, **arguments: Any) -> Answer:
    """What an endpoint answers for the model of this name, which stays in memory meanwhile."""
    service = models.named(model)
    with service.in_use():
        return getattr(Endpoints(service), name)(**arguments)


def _refusing(do: Callable[..., Answer], **arguments: object) -> Answer:
    """What `do` returns. A refusal becomes the error that Gradio hands to the caller, and no line in the log."""
    try:
        return do(**arguments)
    except InputError as refused:
        raise gr.Error(str(refused), print_exception=False) from None
    except StoppedError:
        raise gr.Error("nobody waits for the answer", print_exception=False) from None


class Endpoints:
    """What the endpoints compute; each method is one of them. All arguments may be anything that JSON can hold.

    Args, in each method:
        in_vain: says whether nobody waits for the answer any more; long work then ends.
    Raises, in each method:
        InputError: an argument is out of range; the error states the range.
        StoppedError: nobody waits for the answer any more.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._schedule = service, service.checkpoint.schedule
        self._shape = service.readings.shape
        self._rows_shape = self._shape[:2] if self._shape[2] == 1 else self._shape

    def q_sample(self, t: object, x0: object, seed: object, in_vain: InVain) -> Answer:
        """x_t of Eq. 4, for noise of a torch generator with this seed."""
        at, clean = self._timestep(t), pixels_to_tensor(self._pixels(x0), self._shape)
        generator = torch.Generator().manual_seed(check_whole("seed", seed, 0, MAX_SEED))
        eps = torch.randn(clean.shape, generator=generator)
        xt = self._schedule.q_sample(clean, eps, at)
        return {"xt": self._rows(xt), "eps": self._rows(eps), "alpha_bar": self._schedule.alpha_bar[at].item()}

    def predict_noise(self, xt: object, t: object, in_vain: InVain) -> Answer:
        """eps_theta(x_t, t), and the x_0 that follows from it by Eq. 15."""
        at = self._timestep(t)
        x = to_tensor(check_array("xt", xt, self._rows_shape, -NOISE_LIMIT, NOISE_LIMIT), self._shape)
        eps_hat = self._service.readings.eps_hat(x, at)
        return {"eps_hat": self._rows(eps_hat), "x0_hat": self._rows(self._schedule.predict_x0(x, eps_hat, at))}

    def sample(self, in_vain: InVain, **fields: object) -> Answer:
        """Pictures drawn from noise; the fields are those of `SampleRequest.check`, but `label` is a name."""
        classes = self._service.checkpoint.classes
        fields["label"] = label_named(fields.get("label"), classes)
        request = SampleRequest.check(fields, self._service.num_steps, self._service.max_images, classes)
        return self._drawn(request, in_vain)

    def inpaint(self, in_vain: InVain, x0: object, mask: object, jumps: object, **fields: object) -> Answer:
        """A picture filled in where the mask is 1; the other fields are those of `sample`."""
        service, classes = self._service, self._service.checkpoint.classes
        pixels = self._pixels(x0)
        erased = check_array("mask", mask, self._shape[:2], 0, 1, whole=True).astype(np.uint8).tobytes()
        fields["label"] = label_named(fields.get("label"), classes)
        limits = (service.num_steps, service.max_images, self._shape, classes)
        return self._drawn(FillRequest.of(pixels, erased, jumps, fields, *limits), in_vain)

    def _drawn(self, request: SampleRequest | FillRequest, in_vain: InVain) -> Answer:
        """The pictures of a request, drawn now unless they are stored."""
        drawn = self._service.samplings.get_or_draw(request, in_vain)
        pictures = np.frombuffer(drawn.finished, np.uint8).reshape(request.num_images, *self._rows_shape)
        return {"images": pictures.tolist(), "seconds": round(drawn.seconds, 3)}

    def elbo_terms(self, x0: object, seed: object, in_vain: InVain) -> Answer:
        """Every term of Eq. 5, in bits per dimension."""
        request = PictureRequest("bound", self._pixels(x0), check_whole("seed", seed, 0, MAX_SEED))
        bound = self._service.readings.get_or_compute_bound(request, in_vain)
        return {
            "prior": bound.prior,
            "kl": bound.bits[1:].tolist(),
            "reconstruction": float(bound.bits[0]),
            "total": bound.total,
            "eps_mse": bound.mse.tolist(),
        }

    def classify(self, x0: object, seed: object, in_vain: InVain) -> Answer:
        """p(y | x_0) over the labels y, and the bits per dimension that each label saves."""
        classes = self._service.checkpoint.classes
        if classes is None:
            raise InputError("refused.no_classes")
        request = PictureRequest("classify", self._pixels(x0), check_whole("seed", seed, 0, MAX_SEED))
        found = self._service.readings.get_or_classify(request, in_vain)
        return {
            "probabilities": dict(zip(classes.names, found.probabilities, strict=True)),
            "bits": dict(zip(classes.names, found.bits, strict=True)),
        }

    def _timestep(self, t: object) -> torch.Tensor:
        """(1,) int64, 0-based."""
        return torch.tensor([check_whole("t", t, 1, self._service.num_steps) - 1])

    def _pixels(self, x0: object) -> bytes:
        """The bytes of a picture that came as rows; of the page's first picture if none came."""
        if x0 is not None:
            return check_array("x0", x0, self._rows_shape, 0, 255, whole=True).astype(np.uint8).tobytes()
        first = self._service.first_picture()
        if first is None:
            self._service.start_example()  # nobody may have looked at this model yet
            raise InputError("refused.no_example", name="x0")
        return first

    def _rows(self, image: torch.Tensor) -> list:
        """(1, C, H, W) as rows."""
        return image[0].permute(1, 2, 0).double().numpy().round(6).reshape(self._rows_shape).tolist()


# ------------------------------------------------------------------------------------------------------- descriptions

NUMBER = {"type": "number"}
NUMBERS = {"type": "array", "items": NUMBER}
BY_LABEL = {"type": "object", "additionalProperties": NUMBER}
LIGHT = {"concurrency_id": "api-light", "concurrency_limit": 4}
HEAVY = {"concurrency_id": "api-heavy", "concurrency_limit": 1}


def descriptions(*services: Service) -> dict[str, Endpoint]:
    """What callers may rely on, for these models: by name, in the order in which the documentation lists them."""
    T = max(service.num_steps for service in services)
    rows_of = _by_model(services, lambda service: _pictures_of(service)[0])
    if len({service.readings.shape[2] for service in services}) == 1:
        _, nested, pixels, floats = _pictures_of(services[0])
    else:
        pixel = {"anyOf": [NUMBER, NUMBERS]}
        nested = {"type": "array", "items": {"type": "array", "items": pixel}}
        pixels, floats = list[list[int | list[int]]], list[list[float | list[float]]]

    t_means = (
        f"timestep, a whole number from 1 (almost clean) to {_by_model(services, lambda s: str(s.num_steps))} (noise)"
    )
    t = Argument(int, t_means, range=(1, T))
    x0_means = f"clean picture, {rows_of}, whole and from 0 to 255; left out: the first example of the page"
    x0 = Argument(pixels | None, x0_means, default=None)
    xt_means = f"noisy picture, {rows_of}, from -{NOISE_LIMIT} to {NOISE_LIMIT}, where pixel p is p / 127.5 - 1"
    xt = Argument(floats, xt_means)
    names = ", ".join(service.name for service in services)
    model_means = f"name of the model, one of {names}; empty: {services[0].name}"
    if len(services) == 1:
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
            {**_sample_arguments(services, seed), "model": model},
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
            + _without_classes(services),
            {"x0": x0, "seed": seed, "model": model},
            "probabilities, p(label | x0) of each label, which sum to 1; bits that each label saves against no label, "
            "in bits per dimension, less than 0 where it costs some",
            {"probabilities": BY_LABEL, "bits": BY_LABEL},
            **HEAVY,
        ),
        "inpaint": Endpoint(
            "Fill in a part of a picture, each time differently, and leave all other pixels as they are (RePaint, "
            "arXiv 2201.09865). The same arguments give the same pictures.",
            {**_inpaint_arguments(services, x0, seed), "model": model},
            f"images, each of {rows_of} from 0 to 255; seconds it took to draw them",
            {"images": {"type": "array", "items": nested}, "seconds": NUMBER},
            **HEAVY,
            tool=ToolForm(picture=_picture),
        ),
    }


def _by_model(services: Sequence[Service], of: Callable[[Service], str]) -> str:
    """A text that depends on the model: by itself if it is the same for all, else each with the names of its models."""
    names: dict[str, list[str]] = {}
    for service in services:
        names.setdefault(of(service), []).append(service.name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{text} ({', '.join(these)})" for text, these in names.items())


def _pictures_of(service: Service) -> tuple[str, dict[str, Any], Any, Any]:
    """The form of a model's pictures: in words, as a JSON schema, and the types of whole pixels and of floats."""
    height, width, channels = service.readings.shape
    if channels == 1:
        nested = {"type": "array", "items": NUMBERS}
        return f"{height} rows of {width} numbers", nested, list[list[int]], list[list[float]]
    nested = {"type": "array", "items": {"type": "array", "items": NUMBERS}}
    rows_of = f"{height} rows of {width} pixels (red, green, blue)"
    return rows_of, nested, list[list[list[int]]], list[list[list[float]]]


def _without_classes(services: Sequence[Service]) -> str:
    """The models that refuse to name a label, as a sentence; empty if all have labels."""
    without = [service.name for service in services if not service.checkpoint.classes]
    if len(services) == 1 and without:
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


def _sample_arguments(services: Sequence[Service], seed: Argument) -> dict[str, Argument]:
    T = max(service.num_steps for service in services)
    most = max(service.max_images for service in services)
    steps_mean = f"calls of the network, a whole number from 1 to {_by_model(services, lambda s: str(s.num_steps))}"
    images_mean = f"how many, a whole number from 1 to {_by_model(services, lambda s: str(s.max_images))}"
    first_steps = min(FIRST_STEPS, *(service.num_steps for service in services))
    return {
        "sampler": Argument(
            Literal[SAMPLERS], f"one of {', '.join(SAMPLERS)}; ddpm takes the model's own variance", default="ddim"
        ),
        "num_inference_steps": Argument(int, steps_mean, default=first_steps, range=(1, T)),
        "num_images": Argument(int, images_mean, default=1, range=(1, most)),
        "seed": seed,
        "eta": Argument(
            float, "DDIM's share of fresh noise, from 0 to 1; other samplers ignore it", default=0.0, range=(0, 1)
        ),
        "label": Argument(str, _by_model(services, _labels_of), default=""),
        "guidance_scale": Argument(
            float,
            f"s in eps = eps_0 + s (eps_c - eps_0), from 0 (no label) to {MAX_SCALE:g}; 1 is the label without "
            "guidance; papers that write w mean s - 1; no effect without a label",
            default=1.0,
            range=(0, MAX_SCALE),
        ),
    }


def _inpaint_arguments(services: Sequence[Service], x0: Argument, seed: Argument) -> dict[str, Argument]:
    """Those of `/sample`, and before them the picture, where it is filled in, and how."""
    rows, columns = (_by_model(services, lambda service, k=k: str(service.readings.shape[k])) for k in (0, 1))
    mask_means = f"{rows} rows of {columns} numbers: 1 where the picture is filled in, 0 where its pixels stay"
    jumps_mean = (
        f"how often the sampler jumps back and takes the same steps again, so that the filling comes to fit what is "
        f"around it, a whole number from 0 to {MAX_JUMPS}; it takes about so many times longer"
    )
    drawn = _sample_arguments(services, seed)
    drawn["sampler"] = Argument(
        Literal[FILLERS], f"one of {', '.join(FILLERS)}; ddpm takes the model's own variance", default="ddpm"
    )
    return {
        "mask": Argument(list[list[int]], mask_means),
        "x0": x0,
        "jumps": Argument(int, jumps_mean, default=JUMPS, range=(0, MAX_JUMPS)),
        **drawn,
    }


def _labels_of(service: Service) -> str:
    """What a model can be asked to draw, on one line, whatever a stranger has named."""
    classes = service.checkpoint.classes
    if not classes:
        return "name of what to draw; this model has no labels, so it must be empty"
    return f"name of what to draw, one of {' '.join(classes.listed().split())}; empty: no label"
