"""The public endpoints, for gradio_client, plain HTTP and MCP: /q_sample, /predict_noise, /sample, /elbo_terms.

Pictures are nested lists: rows of pixels, each a number, or three for a colour model. x_0 is given in pixel values,
0 to 255, so that it is exact; what has noise in it as the network sees it, where pixel p is p / 127.5 - 1.

t is 1-based here, as in the paper, and 0-based in `ddpm.schedule`. No annotations from the future: Gradio reads types.
"""

from collections.abc import Callable
from typing import Any, Literal

import gradio as gr
import numpy as np
import torch

from ddpm.sampling import SAMPLERS
from ddpm.ui.server.requests import MAX_SEED, InputError, PictureRequest, SampleRequest, check_array, check_whole
from ddpm.ui.server.service import Service

NOISE_LIMIT = 20  # of |x_t|: nothing that q draws is further out


def _schema(**properties: dict) -> dict[str, Any]:
    """The JSON schema of an answer, which Gradio cannot read from a type."""
    return {"type": "object", "properties": properties}


def _refusing(do: Callable) -> dict[str, Any]:
    """What `do` returns; a refusal becomes the error that Gradio hands to the caller, and no line in the log."""
    try:
        return do()
    except InputError as refused:
        raise gr.Error(str(refused), print_exception=False) from None


def add(blocks: gr.Blocks, service: Service) -> None:
    """The four endpoints for this model, in Blocks that are being built."""
    schedule, T = service.checkpoint.schedule, service.num_steps
    size, _, channels = shape = service.readings.shape
    listed = (size, size) if channels == 1 else shape
    gray = channels == 1
    Pixels = list[list[int]] if gray else list[list[list[int]]]
    Floats = list[list[float]] if gray else list[list[list[float]]]

    def rows(images: torch.Tensor) -> list:
        """(1, C, H, W) as nested lists."""
        return images[0].permute(1, 2, 0).double().numpy().round(6).reshape(listed).tolist()

    def image(numbers: np.ndarray) -> torch.Tensor:
        """Back again, float32."""
        return torch.from_numpy(numbers.reshape(shape)).permute(2, 0, 1)[None].float()

    def pixels_of(x0: object) -> bytes:
        if x0 is not None:
            return check_array("x0", x0, listed, 0, 255, whole=True).astype(np.uint8).tobytes()
        first = service.first_picture()
        if first is None:
            raise InputError("refused.no_example", name="x0")
        return first

    def timestep(t: object) -> torch.Tensor:
        return torch.tensor([check_whole("t", t, 1, T) - 1])

    def q_sample(t: int, x0: Pixels | None = None, seed: int = 0) -> dict:
        def do():
            at, pixels = timestep(t), np.frombuffer(pixels_of(x0), np.uint8)
            clean = image(pixels.astype(np.float64) / 127.5 - 1)
            generator = torch.Generator().manual_seed(check_whole("seed", seed, 0, MAX_SEED))
            eps = torch.randn(clean.shape, generator=generator)
            xt = schedule.q_sample(clean, eps, at)
            return {"xt": rows(xt), "eps": rows(eps), "alpha_bar": schedule.alpha_bar[at].item()}

        return _refusing(do)

    def predict_noise(xt: Floats, t: int) -> dict:
        def do():
            at, x = timestep(t), image(check_array("xt", xt, listed, -NOISE_LIMIT, NOISE_LIMIT))
            eps_hat = service.readings.eps_hat(x, at)
            return {"eps_hat": rows(eps_hat), "x0_hat": rows(schedule.predict_x0(x, eps_hat, at))}

        return _refusing(do)

    def sample(
        sampler: Literal[SAMPLERS] = "ddim",
        num_inference_steps: int = min(50, T),
        num_images: int = 1,
        seed: int = 0,
        eta: float = 0.0,
    ) -> dict:
        raw = {"sampler": sampler, "num_inference_steps": num_inference_steps, "num_images": num_images}

        def do():
            request = SampleRequest.check({**raw, "seed": seed, "eta": eta}, T, service.max_images)
            drawn = service.runs.whole(request)
            pictures = np.frombuffer(drawn.finished, np.uint8).reshape(request.num_images, *listed)
            return {"images": pictures.tolist(), "seconds": round(drawn.seconds, 3)}

        return _refusing(do)

    def elbo_terms(x0: Pixels | None = None, seed: int = 0) -> dict:
        def do():
            bound = service.readings.whole(
                PictureRequest("bound", pixels_of(x0), check_whole("seed", seed, 0, MAX_SEED))
            )
            kl, first = bound.bits[1:].tolist(), float(bound.bits[0])
            terms = {"prior": bound.prior, "kl": kl, "reconstruction": first, "total": bound.total}
            return {**terms, "eps_mse": bound.mse.tolist()}

        return _refusing(do)

    rows_of = f"{size} rows of {size} numbers" if gray else f"{size} rows of {size} pixels (red, green, blue)"
    fields = {
        "x0": f"clean picture, {rows_of}, whole and from 0 to 255; left out: the first example of the page",
        "xt": f"noisy picture, {rows_of}, from -{NOISE_LIMIT} to {NOISE_LIMIT}, where pixel p is p / 127.5 - 1",
        "t": f"timestep, a whole number from 1 (almost clean) to {T} (noise)",
        "seed": f"of the noise, a whole number from 0 to {MAX_SEED}; the same seed gives the same answer",
    }
    limits = {"t": (1, T), "seed": (0, MAX_SEED), "num_inference_steps": (1, T), "eta": (0, 1)}
    limits["num_images"] = (1, service.max_images)
    ranges = {name: {"minimum": low, "maximum": high} for name, (low, high) in limits.items()}
    numbers = {"type": "array", "items": {"type": "number"}}
    number = {"type": "number"}
    nested = {"type": "array", "items": numbers if gray else {"type": "array", "items": numbers}}
    for function, group, what, arguments, answer, schema in (
        (
            q_sample,
            "light",
            "Noise a picture: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 4 of arXiv 2006.11239.",
            {name: fields[name] for name in ("t", "x0", "seed")},
            "xt and eps (standard normal), in rows as x0; alpha_bar of t",
            _schema(xt=nested, eps=nested, alpha_bar=number),
        ),
        (
            predict_noise,
            "light",
            "What the network says of a noisy picture: its noise, and the clean picture that follows from it (Eq. 15).",
            {name: fields[name] for name in ("xt", "t")},
            "eps_hat and x0_hat (not clipped to -1 ... 1), in rows as xt",
            _schema(eps_hat=nested, x0_hat=nested),
        ),
        (
            sample,
            "heavy",
            "Draw pictures from noise. The same arguments give the same pictures.",
            {
                "sampler": f"one of {', '.join(SAMPLERS)}; ddpm takes the model's own variance",
                "num_inference_steps": f"calls of the network, a whole number from 1 to {T}",
                "num_images": f"how many, a whole number from 1 to {service.max_images}",
                "seed": fields["seed"],
                "eta": "DDIM's share of fresh noise, from 0 to 1; other samplers ignore it",
            },
            f"images, each of {rows_of} from 0 to 255; seconds it took to draw them",
            _schema(images={"type": "array", "items": nested}, seconds=number),
        ),
        (
            elbo_terms,
            "heavy",
            "Every term of the variational bound of one picture (Eq. 5), in bits per dimension: an upper bound on the "
            "length of its code.",
            {name: fields[name] for name in ("x0", "seed")},
            f"prior (L_T); kl (L_t-1 of t = 2 ... {T}); reconstruction (L_0); total, their sum; "
            f"eps_mse (mean squared error of the predicted noise, t = 1 ... {T})",
            _schema(prior=number, kl=numbers, reconstruction=number, total=number, eps_mse=numbers),
        ),
    ):
        described = "\n".join(f"    {name}: {text}" for name, text in arguments.items())
        function.__doc__ = f"{what}\n\nArgs:\n{described}\n\nReturns:\n    {answer}"
        limit = {"light": 4, "heavy": 1}[group]
        made = gr.api(function, concurrency_id=f"api-{group}", concurrency_limit=limit)
        endpoint = blocks.fns[made["id"]]
        # Ranges and the shape of an answer, which no type hint can say.
        for parameter, (name, meaning) in zip(endpoint.inputs, arguments.items(), strict=True):
            parameter.label = name
            parameter._api_info |= {**ranges.get(name, {}), "additional_description": meaning}
        (returned,) = endpoint.outputs
        returned.label, returned._api_info = "answer", {**schema, "additional_description": answer}
