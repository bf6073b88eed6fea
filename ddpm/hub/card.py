"""The model card, which is README.md of a model directory, written from its settings and metrics.

Its text is in card_template.md beside this module.
"""

from __future__ import annotations

import json
import logging
import math
import shlex
from pathlib import Path
from typing import Any

from ddpm.config import OutputOptions, TrainConfig, preset
from ddpm.errors import first_line
from ddpm.files import write_text
from ddpm.hub.contents import REPO_ID
from ddpm.hub.privacy import PRIVATE, public_data, public_folder, without_paths
from ddpm.metrics import FEW_IMAGES, commonest_class, memorises, read_metrics
from ddpm.names import LEARNED_VARIANCES, counted, grid_steps, size_of

log = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("card_template.md")
# A card with one of these lines is written anew; the first is the current one.
MARK = (
    "<!-- This card was generated and is rewritten after training, evaluation and push. Delete this line to keep a "
    "hand-written card. -->"
)
MARKS = (
    MARK,
    "<!-- Written by the code, and written anew after training, evaluation and push. To edit it, remove this line. -->",
)
# Options that say where and how a run took place, but not what it computed.
CIRCUMSTANCES = (
    "preset output_dir resume_from_checkpoint num_cpu_threads report_to push_to_hub hub_model_id hub_private_repo "
    "hub_wait_minutes"
).split()


def write(directory: Path, repo_id: str | None = None) -> str | None:
    """Write README.md of a model directory, unless somebody has replaced it by a card of their own.

    It does nothing for models that train.py did not write. If a card cannot be read or written, it stays as it is, and
    there is a warning: no training and no push should fail because of a card.

    Args:
        repo_id: <user>/<name> on the Hub, for the commands in the card.
    Returns:
        why a card stays as it is although it should be written anew; None if all is well.
    """
    try:
        _write(directory, repo_id)
    except Exception as error:  # settings, metrics and the card may come from anybody
        what = f"{type(error).__name__}: " if isinstance(error, LookupError | TypeError | AttributeError) else ""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{what}{first_line(error)}"
        log.warning("README.md stays as it is: %s", reason)
        return reason
    return None


def _write(directory: Path, repo_id: str | None) -> None:
    path, weights = directory / "README.md", directory / "unet/diffusion_pytorch_model.safetensors"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        if not any(mark in text for mark in MARKS):
            return
    if not (directory / "train_config.json").is_file() or not weights.is_file():
        return
    settings = json.loads((directory / "train_config.json").read_text(encoding="utf-8"))
    rows = read_metrics(directory / "metrics.jsonl")
    write_text(path, model_card(directory, settings, rows, _num_parameters(weights), repo_id))


def _num_parameters(weights: Path) -> int:
    """Number of weights, from the header of a safetensors file: eight bytes of length, then JSON."""
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
    """The text of a card: what the model is, how good it is, how it was made, how to use it, and what its limits are.

    Args:
        settings: the content of train_config.json.
        rows: those of metrics.jsonl.
        repo_id: <user>/<name> on the Hub; default: hub_model_id of the settings. Without either, the commands in the
            card name the directory.
    """
    from huggingface_hub import ModelCard

    start = without_paths(settings["options"].get("init_from"))
    settings = settings | {"options": settings["options"] | {"init_from": start}}
    options, images = settings["options"], settings["data"]
    if not repo_id and REPO_ID.fullmatch(options.get("hub_model_id") or ""):
        repo_id = options["hub_model_id"]
    name = repo_id.split("/")[1] if repo_id else _in_utf_8(directory.resolve().name)
    model = repo_id or _in_utf_8(public_folder(directory))
    dataset = public_data(options, images)
    validation, evaluation = _last(rows)
    done = [row for row in rows if row["kind"] in ("train", "validation") and "images" in row]
    labels = _labels(directory)
    card = ModelCard.from_template(
        _card_data(name, dataset, validation, evaluation, bool(labels)),
        template_path=str(TEMPLATE),
        mark=MARK,
        name=name,
        repo_id=repo_id,
        options=options,
        images=images,
        dataset=dataset,
        dataset_link=_link(dataset),
        size=f"{'x'.join(map(str, size_of(images['resolution'])))}x{images['channels']}",
        height=size_of(images["resolution"])[0],
        width=size_of(images["resolution"])[1],
        learned_variance=options["variance_type"] in LEARNED_VARIANCES,
        num_parameters=num_parameters,
        target={"epsilon": "the noise", "sample": "x_0", "v_prediction": "v"}[options["prediction_type"]],
        samples=_samples(directory, settings),
        strip=(directory / "strip.png").is_file(),
        training_plot=(directory / "training.png").is_file(),
        validation=validation,
        trained=max(done, key=lambda row: row["step"], default=validation),  # it may have ended between validations
        evaluation=evaluation,
        memorises=memorises(validation),
        few_images=FEW_IMAGES,
        num_validation=OutputOptions.num_validation_images,  # as `ddpm.evaluate` draws them
        bound_terms=_bound_terms(evaluation),
        labels=labels,
        label_list=_listed(labels),
        label_literal=json.dumps(labels[_shown_class(labels, rows)], ensure_ascii=False) if labels else None,
        always_told=bool(labels) and options.get("label_dropout") == 0,
        guidance=[row for row in evaluation.get("by_guidance_scale") or [] if row["frechet_distance"] is not None],
        notes=without_paths(images["notes"]),
        settings=_settings_table(settings, rows, dataset),
        model_literal=json.dumps(model, ensure_ascii=False),
        model_word=shlex.quote(model),
        commands=[training_command(settings), *_evaluation_commands(model, options, dataset, evaluation)],
        thousands="{:,}".format,
    )
    return _in_utf_8(str(card).rstrip()) + "\n"


def _in_utf_8(text: str) -> str:
    r"""Text with the names of folders in it, in which bytes that are not UTF-8 become "\xca"."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _last(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last rows of validation and of evaluation. Each is empty if there is none; an evaluation of weights that were
    trained on since then does not count."""
    found = {
        kind: next((row for row in reversed(rows) if row["kind"] == kind), {}) for kind in ("validation", "evaluation")
    }
    validation, evaluation = found.values()
    outdated = validation.get("step", 0) > (evaluation.get("step") or 0)
    return validation, {} if outdated else evaluation


def _shown_class(labels: list[str], rows: list[dict[str, Any]]) -> int:
    """The number of the class that the card's commands draw."""
    commonest = commonest_class(labels, rows)
    return len(labels) // 3 if commonest is None else commonest


def _labels(directory: Path) -> list[str]:
    """The names of the classes of a class-conditional model; none of any other."""
    path = directory / "labels.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def _listed(labels: list[str], most: int = 24) -> str:
    """The names as code in Markdown, each in one line; a long list is cut and ends with the number of the rest."""
    shown = ", ".join(f"`{' '.join(name.split()).replace('`', chr(39))}`" for name in labels[:most])
    return shown + (f" and {len(labels) - most:,} more in `labels.json`" if len(labels) > most else "")


def _card_data(
    name: str, dataset: str | None, validation: dict[str, Any], evaluation: dict[str, Any], conditional: bool
):
    """The metadata that the Hub reads, a ModelCardData.

    The task stays that of a DDPMPipeline also for a class-conditional model: the Hub has none for classes.
    """
    from huggingface_hub import EvalResult, ModelCardData

    scale = f", s = {evaluation['guidance_scale']:g}" if "guidance_scale" in evaluation else ""
    told = ", with label" if evaluation.get("num_labelled_images") else ""
    measured = {
        "bits_per_dim": (f"bits/dim, upper bound{told}", evaluation.get("bits_per_dim")),
        "bits_per_dim_without_label": (
            "bits/dim, upper bound, without label",
            evaluation.get("bits_per_dim_without_label"),
        ),
        "eps_mse_mean": (f"epsilon-MSE, held out{told}", evaluation.get("eps_mse_mean")),
        "val_loss": (
            "val_loss, epsilon-MSE of frozen held-out draws",
            evaluation.get("val_loss", validation.get("val_loss_ema")),
        ),
        "frechet_distance": (
            f"Fréchet distance, features of {evaluation.get('feature_network')}{scale}",
            evaluation.get("frechet_distance"),
        ),
        "label_accuracy": (f"samples with the label that was asked for{scale}", evaluation.get("label_accuracy")),
    }
    about = {
        "task_type": "unconditional-image-generation",
        "task_name": "Unconditional image generation",
        "dataset_type": dataset or "images",
        "dataset_name": dataset or "a local folder of images",
        "dataset_split": evaluation.get("split"),
    }
    results = [
        EvalResult(metric_type=metric, metric_name=label, metric_value=round(value, 6), **about)
        for metric, (label, value) in measured.items()
        if value is not None
    ]
    return ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        license="apache-2.0",
        tags=["ddpm", "diffusion", "unconditional-image-generation", *(["class-conditional"] if conditional else [])],
        datasets=[dataset] if dataset and REPO_ID.fullmatch(dataset) else None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _link(dataset: str | None) -> str:
    if dataset is None:
        return "A local folder of images"
    if dataset == "digits":
        return "scikit-learn's handwritten digits"
    return f"[{dataset}](https://hf.co/datasets/{dataset})"


def _samples(directory: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The newest sample grid, and how it was drawn; None if there is none."""
    pictures = sorted((directory / "samples").glob("step-*.png"))
    if not pictures:
        return None
    # train.py draws them so; a model whose grids were drawn in another way notes it in its settings.
    trained = pictures[-1].stem.removeprefix("step-")
    steps = settings["options"]["sample_steps"]
    if trained.isdigit():
        steps = grid_steps(steps, int(trained))
    usual = {"sampler": "ancestral", "num_inference_steps": steps}
    return {"picture": pictures[-1].name, **(settings.get("samples") or usual)}


def _bound_terms(evaluation: dict[str, Any]) -> str:
    """The terms of the bound that are known, in bits per dimension."""
    terms = (("prior", "prior_bits"), ("KL terms", "kl_bits_total"), ("reconstruction", "reconstruction_bits"))
    return ", ".join(f"{name} {evaluation[key]:.4g}" for name, key in terms if evaluation.get(key) is not None)


def _settings_table(settings: dict[str, Any], rows: list[dict[str, Any]], dataset: str | None) -> dict[str, str]:
    """Every option that decides what a run computes, and the machine that computed it."""
    options, machine = TrainConfig().to_json() | settings["options"], settings["machine"]
    lines = {f"`{name}`": _shown(value) for name, value in options.items() if name not in CIRCUMSTANCES[1:]}
    lines["`dataset_name`"] = dataset or "a folder"
    processes, threads = machine["processes"], machine["threads"]
    lines["machine"] = f"{machine['processor']}, {counted(processes, 'process')}, {counted(threads, 'thread')} each"
    speeds = sorted(row["images_per_second"] for row in rows if row["kind"] == "train" and "images_per_second" in row)
    if speeds:
        lines["speed"] = f"{speeds[len(speeds) // 2]:.0f} images/s (median)"
    lines["versions"] = ", ".join(f"{package} {version}" for package, version in settings["versions"].items())
    return lines


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)


def _evaluation_commands(
    model: str, options: dict[str, Any], dataset: str | None, evaluation: dict[str, Any]
) -> list[str]:
    """The command lines that reproduce the figures, or one that measures the model for the first time."""
    commands = []
    for name in ("command", "samples_command", "classify_command"):
        words = shlex.split(evaluation.get(name) or "")
        if len(words) > 3 and words[2] == "ddpm.evaluate":  # python -m ddpm.evaluate MODEL ...
            words[3] = model
            words = [(dataset or "FOLDER") if word == options["dataset_name"] else word for word in words]
            commands.append(shlex.join("FOLDER" if word.startswith(PRIVATE) else word for word in words))
    return commands or [shlex.join(["python", "-m", "ddpm.evaluate", model])]


def training_command(settings: dict[str, Any]) -> str:
    """The command line that trains with the options of a train_config.json. FOLDER stands for data without a public
    name."""
    data = public_data(settings["options"], settings["data"])
    options = settings["options"] | {"dataset_name": data or "FOLDER"}
    return command(options, options["preset"], settings["machine"])


def command(options: dict[str, Any], preset_name: str, machine: dict[str, Any]) -> str:
    """The command line that trains with these options: the preset, and whatever differs from it.

    Args:
        machine: `processes` and `device`, as in train_config.json.
    """
    defaults, processes = preset(preset_name).to_json(), machine["processes"]
    launch = "accelerate launch"
    if processes > 1:
        on_cpus = str(machine["device"]).startswith("cpu")
        launch = f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {processes}" if on_cpus else launch
        launch += "" if on_cpus else f" --num_processes {processes}"
    words = [f"{launch} train.py", f"--preset {preset_name}"]
    for name, value in options.items():
        if name in CIRCUMSTANCES or value is None or _shown(value) == _shown(defaults.get(name)):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words.append(" ".join([f"--{name}", *(shlex.quote(str(v)) for v in values)]))
    return " ".join(words)
