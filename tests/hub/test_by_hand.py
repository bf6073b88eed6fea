"""`python -m ddpm.hub` as people run it, and the README's commands that deploy the Space."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_tools import ROOT, up

from ddpm.model_files import Layout


def test_by_hand(lfs, hub, model, name):
    push = [sys.executable, "-m", "ddpm.hub", "push"]
    done = lfs.run(*push, str(model), "--repo_id", name, "--private")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{hub.endpoint}/{name}/tree/{hub.store.repos['model', name].branches['main']}"
    nothing = lfs.run(*push, str(model / "samples"), "--repo_id", name)
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (1, 1)
    assert "no model_index.json" in nothing.stderr
    assert lfs.run(*push, str(model), "--repo_id", "a/b/c").returncode == 2
    assert lfs.run(*push, str(model), "--repo_id", name, HF_TOKEN="hf_read", HF_HUB_OFFLINE="1").returncode == 1
    # hf_xet is not needed: without it, the client takes LFS.
    hidden = (
        "import sys, huggingface_hub.utils._runtime as r; r._package_versions['hf_xet'] = 'N/A'; "
        "sys.modules['hf_xet'] = None; from ddpm.hub.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    (model / "samples/step-000001.png").write_bytes(b"\x89PNG\0")
    done = lfs.run(sys.executable, "-c", hidden, "push", str(model), "--repo_id", name, HF_HUB_DISABLE_XET="0")
    assert done.returncode == 0, done.stderr
    assert "samples/step-000001.png" in up(hub, name)


@pytest.mark.long
def test_the_readmes_commands_deploy_the_space(lfs, hub, tmp_path):
    """Word for word, with another name, from a copy: the address of the Hub is the stand-in's."""
    skipped = shutil.ignore_patterns("__pycache__", ".git", "runs", ".*_cache", ".hypothesis", ".venv")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=skipped)
    (tmp_path / "copy/runs").mkdir()
    (tmp_path / "copy/runs/large.bin").write_bytes(b"state")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Deploy the Space")[1].split("\n## ")[0]
    lines = "".join(re.findall(r"```\n(.*?)```", section, re.DOTALL)).splitlines()
    assert len(lines) == 4
    programs = {"hf": str(Path(sys.executable).parent / "hf"), "python": sys.executable}
    env = lfs.env | {"PYTHONPATH": ""}
    for line in lines:
        words = shlex.split(line.replace("you/", "alice/"), comments=True)
        done = subprocess.run(
            [programs[words[0]], *words[1:]], cwd=tmp_path / "copy", env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert hub.variables["alice/ddpm"] == {"DDPM_MODEL": "alice/ddpm-digits", "DDPM_REVISION": "main"}
    pushed = up(hub, "alice/ddpm-mnist")
    assert set(Layout.of(pushed, "alice/ddpm-mnist").files) <= pushed.keys()
    repo = hub.store.repos["space", "alice/ddpm"]
    files = repo.commits[repo.branches["main"]].files
    assert {"app.py", "README.md", "requirements.txt", "ddpm/hub/card_template.md", "ddpm/ui/page.py"} <= set(files)
    assert files["ddpm/assets/mnist/unet/diffusion_pytorch_model.safetensors"].lfs
    assert not [path for path in files if path.startswith(("runs/", "tests/", ".git/", ".ci/"))]
