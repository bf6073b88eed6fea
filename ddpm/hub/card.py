"""The model card: README.md of a model directory, written from its settings and metrics."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import shlex
from pathlib import Path
from typing import Any

from ddpm.config import PRESETS, TrainConfig, preset, reference_val_loss
from ddpm.errors import first_line
from ddpm.files import write_text
from ddpm.metrics import read_metrics

log = logging.getLogger(__name__)

REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
MARK = (
    "<!-- Written by the code, and written anew after training, evaluation and push. To edit it, remove this line. -->"
)
# Options that say where a run took place, not what it was.
OF_THE_PLACE = (
    "preset output_dir resume_from_checkpoint num_cpu_threads report_to push_to_hub hub_model_id hub_private_repo"
).split()


def write(directory: Path, repo_id: str | None = None) -> None:
    """Write README.md anew from what lies in a model directory, unless somebody has made it their own.

    Does nothing for models that train.py did not write. A card that cannot be read or written stays as it is, with a
    warning: it is worth no training and no push.

    Args:
        repo_id: <user>/<name> on the Hub, for the commands in the card.
    """
    try:
        _write(directory, repo_id)
    except Exception as error:  # settings, metrics and card may be anybody's
        what = f"{type(error).__name__}: " if isinstance(error, LookupError | TypeError | AttributeError) else ""
        log.warning("README.md stays as it is: %s%s", what, first_line(error))


def _write(directory: Path, repo_id: str | None) -> None:
    path, weights = directory / "README.md", directory / "unet/diffusion_pytorch_model.safetensors"
    own_words = path.is_file() and MARK not in path.read_text(encoding="utf-8")
    if own_words or not (directory / "train_config.json").is_file() or not weights.is_file():
        return
    settings = json.loads((directory / "train_config.json").read_text(encoding="utf-8"))
    rows = read_metrics(directory / "metrics.jsonl")
    text = model_card(directory, settings, rows, _num_parameters(weights), repo_id)
    write_text(path, text)


def _num_parameters(weights: Path) -> int:
    """From the header of a safetensors file, which comes first: eight bytes of length, then JSON."""
    with open(weights, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def model_card(
    directory: Path,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    num_parameters: int,
    repo_id: str | None = None,
) -> str:
    """README.md of a model directory: what it is, how good, how made, how to use it, what it is not good for.

    Args:
        settings: what train_config.json holds.
        rows: of metrics.jsonl.
        repo_id: <user>/<name> on the Hub; default: hub_model_id of the settings, else the card speaks of a folder.
    """
    options, images = settings["options"], settings["data"]
    if not repo_id and REPO_ID.fullmatch(options.get("hub_model_id") or ""):
        repo_id = options["hub_model_id"]
    name = repo_id.split("/")[1] if repo_id else directory.resolve().name
    data = public_data(options, images)
    validation, evaluation = _last(rows)
    pixels = f"{images['resolution']}x{images['resolution']}x{images['channels']}"
    target = {"epsilon": "the noise", "sample": "x_0", "v_prediction": "v"}[options["prediction_type"]]
    averaged = "exponential moving averages" if options["ema_half_life_images"] > 0 else "not averaged"
    samples = sorted((directory / "samples").glob("step-*.png"))
    parts = [
        f"---\n{_front(name, data, rows)}\n---",
        MARK,
        f"# {name}: a DDPM for {data or 'images'} at {pixels}",
        f"A denoising diffusion probabilistic model ([Ho et al. 2020](https://arxiv.org/abs/2006.11239)): a UNet with "
        f"{num_parameters / 1e6:.2f} M parameters that predicts {target} from x_t at T = "
        f"{options['num_train_timesteps']} noise levels. The weights are {averaged}. It is a plain diffusers "
        "`DDPMPipeline` in safetensors.",
    ]
    if samples:
        # What differs from how the trainer draws them now is noted where it was so.
        drawn = settings.get("samples") or {"sampler": "Ancestral", "num_inference_steps": options["sample_steps"]}
        parts.append(
            f"![samples of the model](samples/{samples[-1].name})\n\n{drawn['sampler']} samples in "
            f"{drawn['num_inference_steps']} steps, not selected."
        )
    if (directory / "strip.png").is_file():
        parts.append("![one reverse trajectory: x_t over the network's guess of x_0](strip.png)")
    parts += ["## Measured", _measured(validation, evaluation, options["num_train_timesteps"])]
    if (directory / "training.png").is_file():
        parts.append("![loss against step, and by timestep](training.png)")
    parts += [
        "## Data",
        f"{_link(data)}: {images['num_train']:,} training and {images['num_eval']:,} held-out images, {pixels}, "
        f"fingerprint `{images['fingerprint'][:16]}`. "
        + " ".join(f"{note[:1].upper()}{note[1:]}." for note in reduced(images["notes"])),
        "## Network and diffusion",
        f"`UNet2DModel`: widths {' '.join(map(str, options['block_out_channels']))}, {options['layers_per_block']} "
        f"residual block(s) a level, attention in the middle{_levels(options['attention_levels'])}. "
        f"{options['beta_schedule']} betas, T = {options['num_train_timesteps']}, sampling variance "
        f"{options['variance_type']}.",
        _settings(settings, rows, data),
        "## Use",
        _use(directory, repo_id, options),
        "## Train and evaluate",
        _commands(directory, repo_id, settings, data, evaluation),
        "## Limits",
        f"A model for learning how diffusion works. It draws {pixels} images like those it was trained on and nothing "
        "else, without labels or prompts to steer it; what its training images lack or overstate, its samples lack or "
        "overstate. It was measured as said above and for no other use.",
    ]
    return "\n\n".join(parts) + "\n"


def public_data(options: dict[str, Any], images: dict[str, Any]) -> str | None:
    """The data's public name; None for a folder on somebody's machine, whose path is nobody's business."""
    name, source = options["dataset_name"], images.get("source")
    if reference_val_loss(options["preset"], images["fingerprint"]) is not None:
        return PRESETS[options["preset"]]["dataset_name"]  # the preset's own data, read from a folder
    if source is None:  # a run of before this was noted down
        source = "hub" if name == "digits" or (REPO_ID.fullmatch(name) and not Path(name).exists()) else "folder"
    return None if source == "folder" else name


def reduced(value: Any) -> Any:
    """Of this machine's paths in settings or figures, the last part: the rest is nobody's business."""
    if isinstance(value, dict):
        return {key: reduced(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reduced(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("/", "~", "../")):
        return Path(value).name
    with contextlib.suppress(ValueError):  # of a command, the words; a path may hold spaces
        words = shlex.split(value)
        if value == shlex.join(words) and len(words) > 1:
            return shlex.join(Path(word).name if word.startswith(("/", "~", "../")) else word for word in words)
    return re.sub(r"(?<![\w:/.~])~?/[^\s'\":;,()]+", lambda found: Path(found[0]).name, value)


def _link(data: str | None) -> str:
    if data is None:
        return "Images of one's own"
    return "scikit-learn's handwritten digits" if data == "digits" else f"[{data}](https://hf.co/datasets/{data})"


def _levels(levels: list[int]) -> str:
    return f" and at level {', '.join(map(str, levels))} (0: full resolution)" if levels else ""


def _last(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last rows of validation and of evaluation; empty where there is none, or none of the weights as they are."""
    found = {
        kind: next((row for row in reversed(rows) if row["kind"] == kind), {}) for kind in ("validation", "evaluation")
    }
    validation, evaluation = found.values()
    trained_on = validation.get("step", 0) > (evaluation.get("step") or 0)
    return validation, {} if trained_on else evaluation


def _front(name: str, data: str | None, rows: list[dict[str, Any]]) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    validation, evaluation = _last(rows)
    measured = {
        "bits_per_dim": ("bits/dim, upper bound", evaluation.get("bits_per_dim")),
        "val_loss": ("epsilon-MSE, held out", evaluation.get("val_loss", validation.get("val_loss_ema"))),
        "frechet_distance": (
            f"Fréchet distance, features of {evaluation.get('feature_network')}",
            evaluation.get("frechet_distance"),
        ),
    }
    about = {
        "task_type": "unconditional-image-generation",
        "task_name": "Unconditional image generation",
        "dataset_type": data or "images",
        "dataset_name": data or "images of one's own",
        "dataset_split": evaluation.get("split"),
    }
    results = [
        EvalResult(metric_type=metric, metric_name=label, metric_value=round(value, 6), **about)
        for metric, (label, value) in measured.items()
        if value is not None
    ]
    card = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        license="apache-2.0",
        tags=["ddpm", "diffusion", "unconditional-image-generation"],
        datasets=[data] if data and REPO_ID.fullmatch(data) else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return str(card)


def _table(lines: dict[str, object]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in lines.items())])


def _measured(validation: dict[str, Any], evaluation: dict[str, Any], num_timesteps: int) -> str:
    """What there are figures for, and how they came about."""
    lines: dict[str, object] = {}
    if validation:
        lines["trained"] = f"{validation['step']:,} steps, {validation['images']:,} images"
    if "bits_per_dim" in evaluation:
        error = evaluation.get("bits_per_dim_se")
        held = f"{evaluation['num_images']:,} images" if "num_images" in evaluation else "images"
        split = evaluation.get("split", "test")
        where = "held out" if split == "held out" else f"of split {split}"
        few = evaluation.get("timesteps")
        how = f", estimated from {few} timesteps each" if few and few < num_timesteps else ", all timesteps"
        lines["bits/dim, upper bound"] = (
            f"**{evaluation['bits_per_dim']:.4f}**{f' ± {error:.4f} (standard error)' if error is not None else ''}, "
            f"{held} {where}{how}, variance {evaluation.get('variance_type')}"
        )
        terms = (("prior", "prior_bits"), ("KL terms", "kl_bits_total"), ("reconstruction", "reconstruction_bits"))
        of_bound = [f"{name} {evaluation[key]:.4g}" for name, key in terms if evaluation.get(key) is not None]
        if of_bound:
            lines["of it"] = ", ".join(of_bound)
    if evaluation.get("frechet_distance") is not None:
        drawn = [f"{evaluation['num_samples']:,} samples" if "num_samples" in evaluation else "samples"]
        if "sampler" in evaluation:
            drawn.append(f"{evaluation['sampler']} in {evaluation.get('num_inference_steps')} steps")
        real = evaluation.get("frechet_distance_real")
        floor = f"; real against real images: {real:.3f}" if real is not None else ""
        accuracy = evaluation.get("feature_accuracy")
        network = f"{evaluation.get('feature_network')}{f' (accuracy {accuracy:.4f})' if accuracy else ''}"
        lines["Fréchet distance"] = (
            f"**{evaluation['frechet_distance']:.3f}**, {', '.join(drawn)}{floor}; features of {network}, comparable "
            "only within these features"
        )
    losses = [f"**{evaluation['val_loss']:.4f}**"] if "val_loss" in evaluation else []
    if validation:
        averaged, raw = validation["val_loss_ema"], validation["val_loss"]
        losses.append(f"at the end of training {averaged:.4f} (averaged weights), {raw:.4f} (raw)")
    if losses:
        lines["epsilon-MSE, held out"] = "; ".join([*losses, "predicting no noise gives 1"])
    return _table(lines) if lines else "Nothing yet."


def _settings(settings: dict[str, Any], rows: list[dict[str, Any]], data: str | None) -> str:
    """Every setting, folded away."""
    machine = settings["machine"]
    lines = {
        f"`{k}`": _shown(v)
        for k, v in (TrainConfig().to_json() | settings["options"]).items()
        if k not in OF_THE_PLACE[1:]
    }
    lines["`dataset_name`"] = data or "a folder"
    lines["machine"] = f"{machine['processor']}, {machine['processes']} process(es), {machine['threads']} threads"
    speeds = sorted(row["images_per_second"] for row in rows if row["kind"] == "train" and "images_per_second" in row)
    if speeds:
        lines["speed"] = f"{speeds[len(speeds) // 2]:.0f} images/s (median)"
    lines["versions"] = ", ".join(f"{package} {version}" for package, version in settings["versions"].items())
    return f"<details><summary>Every setting</summary>\n\n{_table(lines)}\n\n</details>"


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)


def _use(directory: Path, repo_id: str | None, options: dict[str, Any]) -> str:
    model = repo_id or _folder(directory)
    where = "" if repo_id else "  # this folder, or its id on the Hub"
    return f"""```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained({json.dumps(model, ensure_ascii=False)}){where}
images = pipeline(batch_size=16, num_inference_steps={options["num_train_timesteps"]}).images
```

In the page that shows every step of the way, from a checkout of the Space:

```
python app.py --model {shlex.quote(model)}
```"""


def _folder(directory: Path) -> str:
    """A relative folder as it was given; of an absolute one only the name, for the rest is nobody's business."""
    return directory.name if directory.is_absolute() else directory.as_posix()


def _commands(
    directory: Path, repo_id: str | None, settings: dict[str, Any], data: str | None, evaluation: dict[str, Any]
) -> str:
    """How to get the same model and the same figures."""
    options, model = settings["options"], repo_id or _folder(directory)
    lines = [training_command(settings)]
    for name in ("command", "samples_command"):
        words = shlex.split(evaluation.get(name) or "")
        if len(words) > 3 and words[2] == "ddpm.evaluate":  # python -m ddpm.evaluate MODEL ...
            words[3] = model
            words = [(data or "FOLDER") if word == options["dataset_name"] else word for word in words]
            lines.append(shlex.join("FOLDER" if word.startswith(("/", "~", "../")) else word for word in words))
    if len(lines) == 1:
        lines.append(shlex.join(["python", "-m", "ddpm.evaluate", model]))
    return "```\n" + "\n".join(lines) + "\n```"


def training_command(settings: dict[str, Any]) -> str:
    """The command line that trains with the options of a train_config.json; FOLDER for data without a public name."""
    data = public_data(settings["options"], settings["data"])
    options = settings["options"] | {"dataset_name": data or "FOLDER"}
    return command(options, options["preset"], settings["machine"])


def command(options: dict[str, Any], preset_name: str, machine: dict[str, Any]) -> str:
    """The command line that trains with these options: the preset, and what differs from it.

    Args:
        machine: `processes` and `device`, as train_config.json has them.
    """
    defaults, processes = preset(preset_name).to_json(), machine["processes"]
    launch = "accelerate launch"
    if processes > 1:
        on_cpus = str(machine["device"]).startswith("cpu")
        launch = f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {processes}" if on_cpus else launch
        launch += "" if on_cpus else f" --num_processes {processes}"
    words = [f"{launch} train.py", f"--preset {preset_name}"]
    for name, value in options.items():
        if name in OF_THE_PLACE or value is None or _shown(value) == _shown(defaults.get(name)):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words.append(" ".join([f"--{name}", *(shlex.quote(str(v)) for v in values)]))
    return " ".join(words)
