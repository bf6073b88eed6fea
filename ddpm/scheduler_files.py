"""The scheduler of a model directory: which of its settings are computed, which change nothing here, and which are
refused.

A setting that were accepted and not computed would give wrong pictures without a word. So every field of a
DDPMScheduler stands in exactly one of the tables below, and a field that none of them has is refused.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import diffusers
from diffusers import DDPMScheduler

from ddpm.errors import first_line
from ddpm.names import LEARNED_VARIANCES, MAX_TIMESTEPS, PREDICTION_TYPES, VARIANCE_TYPES
from ddpm.schedule import NoiseSchedule
from ddpm.settings import Settings, shown

log = logging.getLogger(__name__)

# These decide the tables of the schedule, and what the network predicts. Every scheduler has them.
OF_THE_MODEL = (
    "num_train_timesteps beta_start beta_end beta_schedule trained_betas prediction_type rescale_betas_zero_snr "
    "clip_sample clip_sample_range thresholding"
).split()
# Only DDPMScheduler has these and means something by them that is computed or refused here.
OF_THE_STEPS = ["variance_type", "timestep_spacing", "steps_offset"]
# These two are used by "dynamic thresholding" alone, which is refused.
WITHOUT_EFFECT = ("dynamic_thresholding_ratio", "sample_max_value")
# Fields of early versions of diffusers, with the value by which nothing changes.
OUTDATED = {"predict_epsilon": True, "tensor_format": "pt", "timestep_values": None, "timesteps": None}

BETAS = "beta_start, beta_end, beta_schedule or trained_betas"
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid")
SPACINGS = ("linspace", "leading", "trailing")
# Other names of a variance that is computed here: diffusers takes the root of one and the logarithm of the other.
SAME_VARIANCE = {"fixed_small_log": "fixed_small"}

# Schedulers of the same forward process. A network does not depend on which of them samples from it.
OWN = ("DDPMScheduler", "DDPMParallelScheduler")
NARROW = ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler")
OTHERS = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    *NARROW,
)
NARROW_BETAS = {"beta_start": 0.00085, "beta_end": 0.012}  # what a file of a NARROW one means that names none
# The fields by which schedulers of other classes compute something else than this process.
OTHER_PROCESS = {"use_flow_sigmas": False, "timestep_type": "discrete", "use_dynamic_shifting": False}


def read_scheduler(where: str, values: dict[str, Any], tell: bool) -> DDPMScheduler:
    """The DDPMScheduler of a scheduler_config.json, checked.

    Of a scheduler of another class its betas are taken, as `DDPMScheduler.from_config` does, since samplers are chosen
    here and not by the model.

    Args:
        where: what messages call the model.
        tell: log what is not taken over.
    Raises:
        ValueError: a setting is out of range, or is not computed here; one line that names it.
    """
    kind = values.get("_class_name")
    values = {**NARROW_BETAS, **values} if kind in NARROW else dict(values)
    settings = Settings(where, values)
    known = "a DDPMScheduler is needed, or one with the same betas, such as DDIM, PNDM, DPM-Solver, Euler or UniPC"
    settings.need(kind in OWN + OTHERS, f"the scheduler is {_with_article(kind)}; {known}")
    _check_forward_process(settings)
    if kind in OWN:
        _check_steps(settings)
        variance = values.get("variance_type", "fixed_small")
        values["variance_type"] = SAME_VARIANCE.get(variance, variance)
    elif tell:
        log.warning(
            "%s was saved with %s: its betas and what its network predicts are used, as by "
            "DDPMScheduler.from_config, and none of its own steps",
            where,
            _with_article(kind),
        )
    taken = OF_THE_MODEL + OF_THE_STEPS if kind in OWN else list(OF_THE_MODEL)
    if values.get("variance_type") in LEARNED_VARIANCES:  # it says what the network predicts, in any scheduler
        taken.append("variance_type")
    values = {name: values[name] for name in taken if name in values}
    try:
        made = DDPMScheduler.from_config(values)
        assert isinstance(made, DDPMScheduler)
        NoiseSchedule.from_scheduler(made)
    except Exception as error:  # whatever diffusers raises
        raise ValueError(f"{where}: {BETAS} make no schedule ({first_line(error)})") from None
    if tell and made.config["variance_type"] == "learned":
        log.warning(
            "%s: variance_type learned: the network's second half is taken for the logarithm of the variance, as in "
            "improved-diffusion; DDPMScheduler takes it for the variance itself",
            where,
        )
    alpha_bar = made.alphas_cumprod
    settings.need(
        bool(((alpha_bar > 0) & (alpha_bar < 1)).all()),
        f"{BETAS} make alpha-bar reach from {alpha_bar[0]:g} to {alpha_bar[-1]:g}; between 0 and 1 is needed",
    )
    return made


def _with_article(kind: object) -> str:
    """The name of a class in a sentence: "a DDIMScheduler", "an EulerDiscreteScheduler"."""
    name = shown(kind)
    return f"{'an' if name[:1] in 'AEIO' else 'a'} {name}"


def _check_forward_process(settings: Settings) -> None:
    """Reject a forward process that this project does not compute, whatever class of scheduler describes it."""
    settings.need_whole("num_train_timesteps", 2, MAX_TIMESTEPS, 1000, f"2 to {MAX_TIMESTEPS}")
    settings.need_positive("beta_start", 1e-4)
    settings.need_positive("beta_end", 0.02)
    settings.need_one_of("beta_schedule", BETA_SCHEDULES, "linear")
    settings.need_one_of("prediction_type", PREDICTION_TYPES, "epsilon")
    betas, steps = settings.values.get("trained_betas"), settings.values.get("num_train_timesteps", 1000)
    settings.need(
        betas is None or (isinstance(betas, list) and len(betas) == steps and all(_is_beta(b) for b in betas)),
        f"trained_betas: as many as num_train_timesteps, {steps}, are needed, each between 0 and 1",
    )
    why = ": with it alpha-bar is 0 at t = T, where the noise says nothing about x_0, which is not computed here"
    settings.need_one_of("rescale_betas_zero_snr", (False,), False, why)
    settings.need_one_of("thresholding", (False,), False, ": dynamic thresholding of x_0 is not computed here")
    settings.need_one_of("clip_sample", (True, False), True)
    settings.need_positive("clip_sample_range", 1.0)
    for name, value in OTHER_PROCESS.items():
        settings.need_one_of(name, (value,), value, ": anything else is another forward process than that of DDPM")


def _check_steps(settings: Settings) -> None:
    """Reject settings of a DDPMScheduler whose steps this project does not compute."""
    values = settings.values
    why = ": diffusers takes the root of a logarithm there" if values.get("variance_type") == "fixed_large_log" else ""
    settings.need_one_of("variance_type", (*VARIANCE_TYPES, *LEARNED_VARIANCES, *SAME_VARIANCE), "fixed_small", why)
    # Samplers of fewer steps than T visit timesteps of their own choice, and in T steps every spacing is the same.
    settings.need_one_of("timestep_spacing", SPACINGS, "leading")
    if values.get("timestep_spacing", "leading") == "leading":  # the only one that uses it
        settings.need_one_of("steps_offset", (0,), 0, ": in T steps it leads beyond the last timestep")
    for name, value in OUTDATED.items():
        settings.need(
            values.get(name, value) in (value, None),
            f"{name} {values.get(name)!r}: a field of early versions, which diffusers ignores today; {value} is needed",
        )
    known = {*OF_THE_MODEL, *OF_THE_STEPS, *WITHOUT_EFFECT, *OUTDATED, *_fields_of_others()}
    unknown = sorted(name for name in values if not name.startswith("_") and name not in known)
    names = ", ".join(unknown[:3])
    settings.need(not unknown, f"the scheduler's configuration has {names}, which is not computed here")


def _is_beta(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _fields_of_others() -> set[str]:
    """Settings of other schedulers, which a DDPMScheduler that was made from one of them saves and never uses."""
    classes = (getattr(diffusers, name) for name in OTHERS)
    return {field for kind in classes for field in inspect.signature(kind.__init__).parameters}
