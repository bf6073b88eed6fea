"""The command line of train.py: what it accepts, what it rejects, and that it answers before anything heavy is loaded."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, get_type_hints

import pytest

from ddpm.config import TrainConfig, TrainFlags, parse, preset
from ddpm.presets import PRESETS

ROOT = Path(__file__).parent.parent


def test_underscores_and_dashes():
    config = parse(
        ["--preset", "mnist", "--max-train-steps", "7", "--learning_rate", "1e-4", "--push-to-hub", "--no_compile"]
    )
    assert (config.dataset_name, config.max_train_steps, config.learning_rate) == ("ylecun/mnist", 7, 1e-4)
    assert config.push_to_hub
    assert config.block_out_channels == PRESETS["mnist"]["block_out_channels"]
    assert parse(["--block_out_channels", "8", "16"]).block_out_channels == (8, 16)
    assert parse(["--preset=cifar10"]).dropout == 0.1
    assert parse([]) == preset("digits")


@pytest.mark.parametrize("labels", [{}, {"class_conditional": True, "label_dropout": 0.25, "label_column": "fine"}])
def test_a_saved_config_brings_the_options_back(tmp_path, labels):
    config = preset("mnist", seed=3, block_out_channels=(8, 16), output_dir=tmp_path / "x", **labels)
    path = tmp_path / "train_config.json"
    path.write_text(json.dumps({"options": config.to_json(), "versions": {}}))
    assert parse(["--config", str(path)]) == config
    assert parse(["--config", str(path), "--seed", "4"]) == dataclasses.replace(config, seed=4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--learning_rat 1", "unknown option --learning_rat; did you mean --learning_rate?"),
        ("--learning_rate fast", "--learning_rate: 'fast' is not valid .expected FLOAT"),
        ("--seed", "--seed: a value is needed, INT"),
        ("--channels none", "--channels: 'none' is not valid .expected INT"),
        ("--config", "--config: a value is needed, PATH"),
        ("--config=", "--config .: not a readable train_config.json"),
        ("--learning_rate -1", "--learning_rate -1.0: more than 0"),
        ("--preset celeba", "preset 'celeba': one of digits, mnist"),
        ("--resolution 9", "resolution 9 cannot be halved once: take --resolution 8 or 10, or at most 1 width in"),
        ("--block_out_channels 6 16", "block_out_channels .6.: not divisible by norm_num_groups 8"),
        ("--attention_levels 5", "attention_levels .5.: levels are 0"),
        ("--learning_rate inf", "--learning_rate inf: a finite number"),
        ("--seed 9223372036854775808", "--seed 9223372036854775808: less than 2"),
        ("--max_train_steps 0", "--max_train_steps 0: 1 or more"),
        ("--channels 2", "--channels 2: 1 or 3"),
        ("--background blue", "--background 'blue': white, black or R,G,B from 0 to 255, such as 250,128,0, is needed"),
        ("--background 1,2,256", "--background '1,2,256': white, black or R,G,B from 0 to 255"),
        ("--background 1,2", "--background '1,2': white, black or R,G,B from 0 to 255"),
        ("--background=-1,2,3", "--background '-1,2,3': white, black or R,G,B from 0 to 255"),
        ("--background=", "--background: the value is empty; give one, or leave the flag out"),
        ("--dataset_name=", "--dataset_name: the value is empty"),
        ("--seed 1 --output-dir=", "--output-dir: the value is empty"),
        ("--plots=False", "unexpected argument 'False': --flag turns something on and --no_flag off"),
        ("--value_range 5", "--value_range: '5' is not valid .expected FLOAT FLOAT"),
        ("--num_cpu_threads 100000", "--num_cpu_threads 100000: 0 to 1024 is needed"),
        ("--hub_wait_minutes inf", "--hub_wait_minutes inf: a finite number is needed"),
        ("--num_train_timesteps 10", "--num_train_timesteps 10: 24 to 10000"),
        ("--num_train_timesteps 50 --sample_steps 250", "--sample_steps 250: at most 50"),
        ("--num_train_timesteps 50 --sample-steps=51", "--sample_steps 51: at most 50"),
        ("--lr_schedule linear", "--lr_schedule 'linear': one of constant, cosine"),
        ("--class_conditional --label_dropout 1.5", "--label_dropout 1.5: 0 to 1 is needed"),
        ("--class_conditional --label_dropout -0.1", "--label_dropout -0.1: 0 to 1 is needed"),
        ("--class_conditional --label_dropout nan", "--label_dropout nan: 0 to 1 is needed"),
        ("--class_conditional --label_dropout few", "--label_dropout: 'few' is not valid .expected FLOAT"),
        ("--label_dropout 0.2", "--label_dropout: pass --class_conditional, too; otherwise no label is learned"),
        ("--vlb_weight 0.1", "--vlb_weight: pass --variance_type learned_range, too; otherwise no variance is learned"),
        ("--variance_type learned_range --vlb_weight -1", "--vlb_weight -1.0: 0 or more is needed"),
        ("--variance_type learned", "--variance_type 'learned': one of fixed_small, fixed_large, learned_range"),
        (
            "--variance_type learned_range --prediction_type sample",
            "--variance_type learned_range: fixed_small, fixed_large, or --prediction_type epsilon, is needed",
        ),
        ("--first_timestep_share 1", "--first_timestep_share 1.0: 0 or more and less than 1 is needed"),
        ("--init_from runs/a --layers-per-block=2", "--layers-per-block: the network is that of --init_from runs/a"),
        (
            "--init_from runs/a --new_schedule --norm_num_groups 8",
            "--norm_num_groups: the network is that of --init_from runs/a; leave this flag out",
        ),
        (
            "--init_from runs/a --beta_schedule linear",
            "--beta_schedule: the noise schedule is that of --init_from runs/a; leave this flag out, or pass "
            "--new_schedule to train with another one",
        ),
        ("--no_class_conditional --label-dropout=0.2", "--label-dropout: pass --class_conditional, too"),
        ("--config nowhere.json", "--config nowhere.json: not a readable"),
        ("--hub_wait_minutes 0", "--hub_wait_minutes 0.0: more than 0"),
        ("--output_dir=~nobody-here/run", "--output_dir ~nobody-here/run: there is no user nobody-here"),
        ("--output_dir README.md", "--output_dir README.md: .*README.md is not a folder"),
        ("--output_dir README.md/run", "--output_dir README.md/run: .*README.md is not a folder"),
        ("--output_dir " + 300 * "a", "--output_dir a+: File name too long"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(flags.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": "1e-3"}, 'learning_rate is "1e-3", and a number is needed'),
        ({"seed": 1.5}, "seed is 1.5, and a whole number is needed"),
        ({"seed": True}, "seed is true, and a whole number is needed"),
        ({"push_to_hub": "yes"}, 'push_to_hub is "yes", and true or false is needed'),
        ({"block_out_channels": 32}, "block_out_channels is 32, and a list of whole numbers is needed"),
        ({"block_out_channels": [32, "64"]}, r'block_out_channels is \[32, "64"\], and a list of whole numbers'),
        ({"lr_schedule": "linear"}, 'lr_schedule is "linear", and one of constant, cosine is needed'),
        ({"preset": None}, "preset is null, and one of digits, mnist"),
        ({"output_dir": 7}, "output_dir is 7, and a path or null is needed"),
        ({"resolution": 28.5}, "resolution is 28.5, and a whole number or a text or null is needed"),
        ({"learning_rate": -1}, "--learning_rate -1.0: more than 0 is needed"),
        ({"seed": 0, "sede": 1, "x": 2}, "unknown options sede, x"),
        ({"sede": 1}, "unknown option sede$"),
        ({"a\nb": 1}, r'unknown option "a\\nb"$'),
        ({f"x{i}": 1 for i in range(30)}, "unknown options x0, x1, .* and 22 more$"),
        ({"output_dir": ""}, 'output_dir is "", and a path or null is needed'),
        ({"dataset_name": ""}, "--dataset_name: the value is empty"),
        ([1], "not a train_config.json, which holds the options by name"),
    ],
)
def test_a_config_with_wrong_values_is_one_line_that_names_file_key_and_value(tmp_path, options, message, capsys):
    path = tmp_path / "train_config.json"
    for stored in (options, {"options": options}):
        path.write_text(json.dumps(stored))
        with pytest.raises(SystemExit) as stop:
            parse(["--config", str(path)])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.match(f"train.py: error: --config {re.escape(str(path))}: {message}", error.strip()), error


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_that_windows_has_written(tmp_path, encoding):
    (tmp_path / "c.json").write_text('{"seed": 3}', encoding)
    assert parse(["--config", str(tmp_path / "c.json")]).seed == 3


def test_a_config_takes_whole_numbers_for_rates_and_a_flag_mends_a_value(tmp_path):
    path = tmp_path / "train_config.json"
    path.write_text(json.dumps({"learning_rate": -1, "dropout": 0, "resolution": None}))
    config = parse(["--config", str(path), "--learning_rate", "1"])
    assert (config.learning_rate, config.dropout, config.resolution) == (1.0, 0.0, None)
    assert isinstance(config.dropout, float)


def test_sample_steps_left_out_are_at_most_all_timesteps(tmp_path):
    assert parse(["--num_train_timesteps", "50"]).sample_steps == 50
    assert parse(["--num_train_timesteps", "2000"]).sample_steps == 250
    assert parse(["--num_train_timesteps", "50", "--sample_steps", "7"]).sample_steps == 7
    assert preset("digits", num_train_timesteps=50).sample_steps == 50
    path = tmp_path / "train_config.json"
    path.write_text(json.dumps(preset("digits").to_json()))
    assert parse(["--config", str(path), "--num_train_timesteps", "40"]).sample_steps == 40


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    from ddpm.evaluate.options import parse as parse_evaluation

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.json").write_text(json.dumps({"seed": 3, "dataset_name": "~/faces"}))
    config = parse(
        ["--config=~/c.json", "--output_dir=~/run", "--resume_from_checkpoint=~/run/checkpoints/step-000001"]
    )
    assert (config.seed, config.output_dir, config.dataset_name) == (3, tmp_path / "run", f"{tmp_path}/faces")
    assert config.resume_from_checkpoint == f"{tmp_path}/run/checkpoints/step-000001"
    config = parse_evaluation(["~/run", "--output=~/r.json", "--dataset_name=~/faces"])
    assert (config.model, config.output, config.dataset_name) == tuple(
        f"{tmp_path}/{n}" for n in ("run", "r.json", "faces")
    )


def test_help_says_each_default_once_and_types_in_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def shown(*flags):
        with pytest.raises(SystemExit):
            parse([*flags, "--help"])
        return re.sub(r"[│╭╮╰╯─\s]+", " ", capsys.readouterr().out)

    text = shown()
    assert "None" not in text
    assert "--output_dir PATH Folder for everything that the run writes. Default: runs/<preset>. --seed INT" in text
    assert not re.search(r"Default: ((?!--).)*\(default:", text)
    assert "The middle block always has it. (default: none)" in text
    assert "(default: 128 256 256 256)" in shown("--preset", "cifar10")


def test_help_shows_every_option_and_loads_nothing_heavy():
    program = (
        "import sys, runpy\n"
        "sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'diffusers', 'accelerate', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name}" in done.stdout
    for group in dataclasses.fields(TrainFlags):
        assert f"{group.name} options" in done.stdout


def test_every_option_is_in_one_group():
    options = [field.name for group in get_type_hints(TrainFlags).values() for field in dataclasses.fields(group)]
    assert options.count("config") == 1
    assert sorted(set(options) - {"config"}) == sorted(field.name for field in dataclasses.fields(TrainConfig))
    assert len(options) == len(set(options))


class Watched(TrainConfig):
    """Options that remember which of them were read."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name):
        Watched.read.add(name)
        return super().__getattribute__(name)

    def to_json(self):
        """Writing down all options uses none of them."""
        return TrainConfig(**vars(self)).to_json()


@pytest.fixture
def own_signals():
    """train.py's main takes two signals over; this gives them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
def test_every_option_is_read_by_a_training(tmp_path, monkeypatch):
    """No dead flags: a short training reads each option, and so does a push, which here ends for want of a token."""
    from accelerate.state import AcceleratorState
    from tiny import TINY

    import train as trainer

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    AcceleratorState._reset_state(reset_partial_state=True)
    Watched.read.clear()
    options = TINY | {
        "max_train_steps": 3,
        "lr_warmup_steps": 1,
        "beta_schedule": "log_snr",
        "variance_type": "learned_range",
        "class_conditional": True,
        "output_dir": tmp_path / "run",
    }
    assert trainer.main(Watched(**options)) == 0
    assert trainer.main(Watched(**options | {"push_to_hub": True})) == 1
    unread = {field.name for field in dataclasses.fields(TrainConfig)} - Watched.read
    assert not unread


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_describe_the_network_they_promise(name):
    from ddpm.unet import build_unet

    config = preset(name)
    config.validate()
    resolution, channels = {"digits": (8, 1), "emoji": (32, 3), "cifar10": (32, 3)}.get(name, (28, 1))
    options = {k: getattr(config, k) for k in ("layers_per_block", "attention_levels", "norm_num_groups", "dropout")}
    parameters = sum(
        p.numel() for p in build_unet(resolution, channels, config.block_out_channels, **options).parameters()
    )
    if name == "cifar10":
        assert parameters / 1e6 == pytest.approx(35.7, abs=0.05)  # Ho et al. 2020, section 4
        assert (config.num_train_timesteps, config.learning_rate, config.train_batch_size) == (1000, 2e-4, 128)
    elif name == "emoji":
        assert parameters < 3e6
        assert (config.class_conditional, config.random_flip) == (True, False)  # mirrored flags and letters are wrong
    elif name == "mnist":
        assert parameters * 4 < 6e6  # the embedded checkpoint


@pytest.mark.parametrize("words", ["train.py --help", "app.py --help", "-m ddpm.evaluate --help", "-m ddpm.hub --help"])
def test_help_that_nobody_reads_ends_silently(words):
    """As in `--help | head -1`: the reader is gone before everything is written."""
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, *words.split()], cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    said = process.communicate(timeout=100)[1]
    assert (process.returncode, said) == (0, b"")
