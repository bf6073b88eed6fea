"""The classes of a class-conditional model: "no label" folded into the network, the files, and what others make."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from labelled import NAMES, SCHEDULER, make_labelled, network
from safetensors.torch import load_file, save_file

from ddpm import checkpoint
from ddpm.classes import MAX_CLASSES, accepting_vectors, fold, separated
from ddpm.names import distinct, is_name
from ddpm.sampling import sample

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345678\n"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def ask(unet, count=4, seed=1):
    """A batch in which every image has a t of its own."""
    draw = torch.Generator().manual_seed(seed)
    shape = (count, unet.config["in_channels"], *[unet.config["sample_size"]] * 2)
    return torch.randn(shape, generator=draw), torch.randint(0, 1000, (count,), generator=draw)


def told(unet, xt, t, label):
    """What a network with a table of class vectors answers for one label."""
    with torch.no_grad():
        return unet(xt, t, torch.full((len(xt),), label)).sample


# -------------------------------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention_levels": (0, 1), "channels": 3},
        {"block_out_channels": (16, 8, 24), "norm_num_groups": 8, "layers_per_block": 2, "seed": 5},
        {"num_classes": 1, "attention_levels": (1,), "seed": 9},
    ],
)
def test_folding_changes_no_answer(options):
    unet = network(**options)
    num_classes = unet.config["num_class_embeds"] - 1
    with torch.no_grad():  # sums of such numbers are exact, so that nothing but the folding could differ in float64
        unet.class_embedding.weight.copy_((unet.class_embedding.weight * 64).round() / 64)
    xt, t = ask(unet)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        whole = copy.deepcopy(unet).to(dtype)
        before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
        folded, vectors = fold(whole)
        assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
        assert vectors.shape == (num_classes, 4 * unet.config["block_out_channels"][0])
        assert folded.config["num_class_embeds"] is None
        taking, x = accepting_vectors(folded), xt.to(dtype)
        answers = [told(whole, x, t, label) for label in range(num_classes + 1)]
        torch.testing.assert_close(folded(x, t).sample, answers[-1], rtol=0, atol=tolerance)
        for label, vector in enumerate([*vectors.to(dtype), torch.zeros_like(vectors[0], dtype=dtype)]):
            torch.testing.assert_close(
                taking(x, t, vector.expand(4, -1)).sample, answers[label], rtol=0, atol=tolerance
            )
        assert (answers[0] - answers[-1]).abs().max() > 0.01, "labels matter"


def test_class_vectors_of_zeros_change_no_bit():
    folded, _ = fold(network())
    xt, t = ask(folded)
    assert torch.equal(accepting_vectors(folded)(xt, t, torch.zeros(4, 32)).sample, folded(xt, t).sample)


# ------------------------------------------------------------------------------------------------------------ the files


def test_a_model_comes_back_with_its_names_and_answers(tmp_path):
    names = ("zero", "数字", "a cat", "Zero-2")
    model = checkpoint.load(make_labelled(tmp_path, names))
    unet = network(4)
    assert model.classes.names == names
    assert json.loads((tmp_path / "labels.json").read_text(encoding="utf-8")) == list(names)
    stored = load_file(tmp_path / "labels.safetensors")
    assert {name: (t.dtype, tuple(t.shape)) for name, t in stored.items()} == {
        "class_embedding": (torch.float32, (4, 32))
    }
    xt, t = ask(unet)
    for eps_theta in (model.engine(), checkpoint.load(tmp_path, weights=False).with_weights().engine()):
        for label in range(-1, 4):
            answer = eps_theta(xt, t, torch.full((4,), label))
            torch.testing.assert_close(answer, told(unet, xt, t, label % 5), rtol=0, atol=1e-5)
        assert torch.equal(eps_theta(xt, t), eps_theta(xt, t, torch.full((4,), -1)))
        mixed = eps_theta(xt, t, torch.tensor([3, -1, 0, 1]))
        for image, label in enumerate((3, 4, 0, 1)):
            torch.testing.assert_close(mixed[image], told(unet, xt, t, label)[image], rtol=0, atol=1e-5)


def test_a_label_is_asked_for_by_its_name(tmp_path):
    model = checkpoint.load(make_labelled(tmp_path / "a", ("Cat", "dog", "DOG", "none of these")))
    asked = {"Cat": 0, "cat": 0, " CAT ": 0, "dog": 1, "DOG": 2, "none": -1, "": -1, None: -1, "None of these": 3}
    assert {name: model.label(name) for name in asked} == asked
    for name in ("cow", "Dog", "4"):
        with pytest.raises(ValueError, match=f"label '{name}': the model knows Cat, dog, DOG, none of these, and none"):
            model.label(name)
    many = checkpoint.load(make_labelled(tmp_path / "b", tuple(map(str, range(100)))))
    assert (many.label(7), many.label("99")) == (7, 99)
    with pytest.raises(
        ValueError, match=r"label '100': the model knows 0, 1, .*, 23 and 76 more, and none for no label"
    ):
        many.label(100)
    plain = checkpoint.Checkpoint("plain", network(0), DDPMScheduler(), tmp_path)
    assert (plain.label(None), plain.label("none")) == (-1, -1)
    with pytest.raises(ValueError, match="label '3': plain has no labels to ask for"):
        plain.label(3)


def test_numbers_that_are_no_labels_are_refused(tmp_path):
    eps_theta = checkpoint.load(make_labelled(tmp_path)).engine()
    xt, t = ask(network())
    for labels, said in (([0, 1, 2, 3], "0 to 3: 0 to 2 is possible, and -1 for no label"), ([-2, 0, 0, 0], "-2 to 0")):
        with pytest.raises(ValueError, match=f"labels from {said}"):
            eps_theta(xt, t, torch.tensor(labels))


def test_names_that_any_file_and_terminal_can_take():
    raw = ["a", " a ", "a (2)", "", "x\ny", "\ud800", "\x1b[31m", "a", "数 字"]
    names = distinct(raw)
    assert names == ("a", "a (2)", "a (2) (2)", "unnamed", "x y", "unnamed (2)", "[31m", "a (3)", "数 字")
    assert all(map(is_name, names))
    assert not any(map(is_name, ["", "  ", "x\ny", "\ud800", 7, None, ["a"]]))


def edit(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def vectors(folder, tensors, **about):
    save_file(tensors, folder / "labels.safetensors", about)


def other_weights(folder):
    unet, _ = separated(network(seed=1), NAMES)
    unet.save_pretrained(folder / "unet")


def to_link(path):
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


REFUSED = {
    "no names": (lambda f: (f / "labels.json").unlink(), "there is labels.safetensors but no labels.json"),
    "no vectors": (lambda f: (f / "labels.safetensors").unlink(), "there is labels.json but no labels.safetensors"),
    "names cut": (lambda f: edit(f / "labels.json", '["ant", "be'), "labels.json is damaged"),
    "names of bytes": (lambda f: (f / "labels.json").write_bytes(b'["\xff", "b", "c"]'), "labels.json is damaged"),
    "names without end": (lambda f: edit(f / "labels.json", "[" * 200_000), "labels.json is damaged"),
    "an object": (lambda f: edit(f / "labels.json", {"0": "ant"}), "labels.json is no list of 1 to 10,000 names"),
    "no name": (lambda f: edit(f / "labels.json", []), "labels.json is no list of 1 to 10,000 names"),
    "a number": (lambda f: edit(f / "labels.json", ["ant", 7, "cat"]), "labels.json: 7 is no name"),
    "null": (lambda f: edit(f / "labels.json", ["ant", None, "cat"]), "labels.json: null is no name"),
    "two lines": (lambda f: edit(f / "labels.json", ["ant", "b\nc", "cat"]), r'labels.json: "b\\nc" is no name'),
    "half a character": (lambda f: edit(f / "labels.json", '["a", "\\ud800", "c"]'), r'"\\ud800" is no name'),
    "twice": (lambda f: edit(f / "labels.json", ["ant", "bee", "ant"]), "labels.json: 'ant' is there more than once"),
    "too few names": (lambda f: edit(f / "labels.json", ["ant", "bee"]), r"shape \(3, 32\); the 2 names in labels.json"),
    "too many names": (
        lambda f: edit(f / "labels.json", list(map(str, range(MAX_CLASSES + 1)))),
        "no list of 1 to 10,000 names",
    ),
    "garbage": (lambda f: (f / "labels.safetensors").write_bytes(b"\x80\x04pickle"), "labels.safetensors is damaged"),
    "empty": (lambda f: (f / "labels.safetensors").write_bytes(b""), "labels.safetensors is damaged"),
    "vectors cut": (
        lambda f: (f / "labels.safetensors").write_bytes((f / "labels.safetensors").read_bytes()[:-9]),
        "labels.safetensors is damaged",
    ),
    "another tensor": (lambda f: vectors(f, {"a": torch.zeros(3, 32)}), "has no tensor class_embedding"),
    "too short": (lambda f: vectors(f, {"class_embedding": torch.zeros(3, 31)}), r"need F32 and \(3, 32\)"),
    "whole numbers": (
        lambda f: vectors(f, {"class_embedding": torch.zeros(3, 32, dtype=torch.int64)}),
        r"holds numbers of type I64 and shape \(3, 32\)",
    ),
    "NaN": (lambda f: vectors(f, {"class_embedding": torch.full((3, 32), float("nan"))}), "holds NaN or infinity"),
    "other weights": (other_weights, "labels.safetensors belongs to other weights than those in unet/"),
    "a pointer": (lambda f: edit(f / "labels.safetensors", POINTER.format("0" * 64)), "is a Git LFS pointer"),
    "a link": (lambda f: to_link(f / "labels.safetensors"), "labels.safetensors is a link to .* out of the model's"),
    "linked names": (lambda f: to_link(f / "labels.json"), "labels.json is a link to .* out of the model's"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_do_not_fit_are_refused_with_the_reason(tmp_path, kind):
    folder = make_labelled(tmp_path / "model")
    spoil, words = REFUSED[kind]
    spoil(folder)
    with pytest.raises(ValueError, match=words) as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert str(error.value).isprintable()


def test_what_is_right_in_another_form_loads(tmp_path):
    """Half precision, vectors that somebody wrote without a note on the weights, and somebody's own labels.json."""
    folder = make_labelled(tmp_path / "half")
    tensors = {name: tensor.half() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    save_file(
        {"class_embedding": load_file(folder / "labels.safetensors")["class_embedding"].half()},
        folder / "labels.safetensors",
    )
    unet, (xt, t) = network(), ask(network())
    label = torch.full((4,), 1)
    torch.testing.assert_close(checkpoint.load(folder).engine()(xt, t, label), told(unet, xt, t, 1), rtol=0, atol=0.02)
    folder = make_labelled(tmp_path / "halved weights")
    save_file(tensors, folder / WEIGHTS)
    assert checkpoint.load(folder).classes.names == NAMES
    plain, _ = separated(network(0), ())
    checkpoint.save(tmp_path / "plain", plain, SCHEDULER)
    edit(tmp_path / "plain/labels.json", {"0": "cat", "1": "dog"})
    assert checkpoint.load(tmp_path / "plain").classes is None


def test_a_model_without_labels_replaces_one_with_them_and_is_what_it_was(tmp_path):
    make_labelled(tmp_path)
    plain, classes = separated(network(0), ("a",))
    assert classes is None
    checkpoint.save(tmp_path, plain, SCHEDULER)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json", WEIGHTS}
    loaded = checkpoint.load(tmp_path)
    assert loaded.classes is None
    assert torch.equal(loaded.engine()(*ask(plain)), plain(*ask(plain)).sample)
    with pytest.raises(ValueError, match="the model has no labels"):
        loaded.engine()(*ask(plain), torch.zeros(4, dtype=torch.int64))


# --------------------------------------------------------------------------------------------------------- plain diffusers


STOCK = """
import sys
import numpy, torch
from diffusers import DDPMPipeline, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import load_file

model, out, seeds = sys.argv[1], sys.argv[2], [int(seed) for seed in sys.argv[3].split(",")]
generators = lambda: [torch.Generator().manual_seed(seed) for seed in seeds]
pipeline = DDPMPipeline.from_pretrained(model)
without = pipeline(batch_size=3, generator=generators(), num_inference_steps=10, output_type="np").images

unet = UNet2DModel.from_pretrained(model, subfolder="unet", class_embed_type="identity").eval()
vectors = load_file(f"{model}/labels.safetensors")["class_embedding"]
labels, scheduler, drawn = torch.tensor([2, 0, 1]), pipeline.scheduler, {}
for scale in (1.0, 2.5):
    noise = generators()
    scheduler.set_timesteps(10)
    with torch.no_grad():
        x = randn_tensor((3, 1, 8, 8), generator=noise)
        for t in scheduler.timesteps:
            told = unet(x, t, class_labels=vectors[labels]).sample
            bare = unet(x, t, class_labels=torch.zeros_like(vectors[labels])).sample
            x = scheduler.step(bare + scale * (told - bare), t, x, generator=noise).prev_sample
    drawn[f"s{scale}"] = x.numpy()
numpy.savez(out, without=without, **drawn)
"""


@pytest.mark.long
def test_stock_diffusers_in_a_fresh_process_draws_what_this_program_draws(tmp_path):
    folder = make_labelled(tmp_path / "model", attention_levels=(1,))
    seeds = [str(np.random.SeedSequence((7, i)).generate_state(1)[0]) for i in range(3)]
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(folder), str(tmp_path / "drawn.npz"), ",".join(seeds)],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stock = np.load(tmp_path / "drawn.npz")
    model = checkpoint.load(folder)
    eps_theta, options = model.engine(), {"num_inference_steps": 10, "seed": 7}
    ours = sample(eps_theta, model.scheduler, (3, 1, 8, 8), **options)
    pixels = (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(pixels, stock["without"], rtol=0, atol=1e-5)
    options["labels"] = torch.tensor([2, 0, 1])
    for scale in (1.0, 2.5):
        told = sample(eps_theta, model.scheduler, (3, 1, 8, 8), guidance_scale=scale, **options)
        np.testing.assert_allclose(told.numpy(), stock[f"s{scale}"], rtol=0, atol=2e-5)
        assert np.abs(stock[f"s{scale}"] - ours.numpy()).max() > 0.1, "labels matter"


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("options", [{}, {"time_embedding_dim": 24}, {"resnet_time_scale_shift": "scale_shift"}])
def test_networks_with_labels_inside_load_and_answer_as_diffusers_does(tmp_path, caplog, count, options):
    """Trained elsewhere, and always with labels: num_class_embeds is set, and the table is among the weights."""
    torch.manual_seed(2)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        layers_per_block=1,
        num_class_embeds=count,
        **options,
    ).eval()
    DDPMPipeline(unet, DDPMScheduler(timestep_spacing="trailing")).save_pretrained(tmp_path)
    model = checkpoint.load(tmp_path)
    assert model.classes.names == tuple(map(str, range(count)))
    assert f"They are called by their numbers, 0 to {count - 1}" in caplog.text
    assert "where no label is asked for, it gets label 0" in caplog.text
    xt, t = ask(unet)
    for late in (False, True):
        engine = (checkpoint.load(tmp_path, weights=False).with_weights() if late else model).engine()
        for label in range(count):
            answer = engine(xt, t, torch.full((4,), label))
            torch.testing.assert_close(answer, told(unet, xt, t, label), rtol=0, atol=1e-5)
        torch.testing.assert_close(engine(xt, t), told(unet, xt, t, 0), rtol=0, atol=1e-5)
    drawn = sample(
        model.engine(), model.scheduler, (2, 1, 8, 8), num_inference_steps=5, labels=torch.tensor([count - 1] * 2)
    )
    assert torch.isfinite(drawn).all()
    (tmp_path / "labels.json").write_text(json.dumps([f"kind {i}" for i in range(count)]))
    assert checkpoint.load(tmp_path).classes.names == tuple(f"kind {i}" for i in range(count))
