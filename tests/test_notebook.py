"""The notebook: it is valid, it is stored without large outputs, its code uses names that exist, and it runs."""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATH = ROOT / "ddpm/notebooks/from_the_bound_to_the_noise.ipynb"
MOST_BYTES = 40_000  # of one stored picture


@pytest.fixture(scope="module")
def cells():
    return json.loads(PATH.read_text(encoding="utf-8"))["cells"]


def sources(cells, kind):
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_it_is_valid_and_stored_without_outputs_but_small_pictures(cells):
    import nbformat

    nbformat.validate(nbformat.read(PATH, as_version=4))
    for cell in cells:
        assert cell.get("execution_count") is None
        for output in cell.get("outputs", ()):
            assert set(output["data"]) <= {"image/png", "text/plain"}, "no log, no error, no table"
            assert len(output["data"]["image/png"]) <= MOST_BYTES
    text = PATH.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert str(ROOT) not in text


def test_each_heading_is_in_both_languages(cells):
    lines = "\n".join(sources(cells, "markdown")).splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert len(headings) >= 9
    for heading in headings:
        english, chinese = heading.split(" · ")
        assert english.isascii() or "_" in english
        assert any("\u4e00" <= character <= "\u9fff" for character in chinese), heading
    assert lines[:2] == ["# From the bound to the noise", "# 从变分下界到噪声预测"]


def test_its_code_uses_names_that_exist(cells):
    """Names of the notebook itself by ruff, and names of the project's modules by importing them."""
    for words in (["check", "--select", "E9,F"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *words, PATH], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    tree = ast.parse("\n".join(sources(cells, "code")))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("ddpm", "train"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                found = getattr(module, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}")
                modules[alias.asname or alias.name] = found
    assert {"q_sample", "posterior_mean", "kl_weight"} <= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}  # fmt: skip
    assert {"train", "reverse_process", "elbo_terms", "gaussian_kl", "NoiseSchedule"} <= set(modules)
    for node in ast.walk(tree):  # such as tiles.grid and checkpoint.load
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
    options = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "preset" and node.keywords)  # fmt: skip
    known = modules["preset"]("digits").to_json()
    assert {keyword.arg for keyword in options.keywords} <= set(known)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_it_runs_from_top_to_bottom_from_a_fresh_clone(tmp_path):
    """In a folder of its own, where the first cell must fetch the code, as on Colab."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(PATH, as_version=4)
    clone = tmp_path / "origin"
    shutil.copytree(ROOT / "ddpm", clone / "ddpm", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "requirements.txt"):
        shutil.copy(ROOT / name, clone / name)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], cwd=clone, check=True)
    (tmp_path / "work").mkdir()
    environment = os.environ | {"DDPM_REPOSITORY": f"file://{clone}", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": ""}
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path / "work")}})
    client.execute(env=environment)
    assert (tmp_path / "work/ddpm-code/train.py").is_file()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()) if out.output_type == "stream")  # fmt: skip
    assert "its loss before training is 0.99" in printed
    losses = [float(line.split("held-out loss ")[1].split(",")[0]) for line in printed.splitlines() if "held-out" in line and "loss " in line]  # fmt: skip
    assert losses[-1] < 0.15
    assert "bits/dim on 8 held-out digits" in printed
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert len(pictures) >= 8
