"""`python app.py`: exit statuses and messages, and the server's own bounds."""

import dataclasses
import http.client
import socket
import subprocess
import sys

import pytest
from harness import ROOT, free_port, serving, visiting
from playwright.sync_api import expect
from untrained import make_model

import app
from ddpm import checkpoint
from ddpm.ui import page as pages
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.models import Models


def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "app.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=180)


def test_a_model_that_is_none_is_one_clear_line(tmp_path, capsys):
    assert app.main(["--model", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "model_index.json" in said
    assert str(tmp_path) in said


@pytest.mark.slow
def test_damaged_weights_are_one_clear_line_though_the_page_does_not_wait_for_them(tmp_path):
    weights = make_model(tmp_path / "model", 8, 1, 20) / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[8:40] = b"x" * 32
    weights.write_bytes(content)
    ended = run("--model", str(tmp_path / "model"), "--port", str(free_port()))
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "cannot be loaded" in ended.stderr


@pytest.mark.parametrize("flags", [["--port", "70000"], ["--port", "x"], ["--nonsense"], ["--revision", "main"]])
def test_wrong_usage_is_status_2(flags):
    ended = run(*flags)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("environment", "host", "model"),
    [
        ({}, "127.0.0.1", []),
        ({"SPACE_ID": "someone/ddpm", "DDPM_MODEL": "someone/model"}, "0.0.0.0", ["someone/model"]),
        ({"GRADIO_SERVER_NAME": "::1", "DDPM_MODEL": ""}, "::1", []),
    ],
)
def test_the_environment_of_a_space_stands_in_for_flags(monkeypatch, environment, host, model):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "DDPM_MODEL", "DDPM_REVISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    chosen = app.parse([])
    assert (chosen.host, chosen.port, chosen.model) == (host, 7860, model)
    assert app.parse(["--model", "here", "--host", "localhost"]).host == "localhost"


@pytest.mark.long
def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = str(other.getsockname()[1])
        ended = run("--model", str(make_model(tmp_path / "model", 8, 1, 20)), "--port", port)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert port in ended.stderr


@pytest.mark.slow
def test_an_oversized_body_is_refused_before_it_is_read(url):
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rstrip("/").rsplit(":", 1)[1]), timeout=20)
    connection.putrequest("POST", "/gradio_api/queue/join")
    connection.putheader("Content-Length", str(2**20))
    connection.endheaders()  # and no body: the answer must not wait for it
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.long
def test_a_space_starts_while_the_hub_is_down_and_says_so(browser, tmp_path):
    """On the embedded checkpoint, in both languages; nothing listens at this Hub's address."""
    nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    wanted = {"DDPM_MODEL": "somebody/their-model", "DDPM_REVISION": "main"}
    log = tmp_path / "log"
    with serving(None, log, **nowhere, **wanted) as url, visiting(browser, url, reduced_motion="reduce") as visitor:
        page = visitor.open()
        notice = page.locator(".page-header .notice")
        expect(notice).to_be_visible()
        expect(notice).to_contain_text("somebody/their-model is currently unavailable (the Hub cannot be reached")
        expect(notice).to_contain_text("); this page shows the embedded model mnist instead.")
        expect(page.locator(".page-header .chip")).to_contain_text("embedded")
        page.locator('[data-language="zh"]').click()
        expect(notice).to_contain_text("本页改用内置模型")
    assert "model 'somebody/their-model' at 'main' cannot be pulled: the Hub cannot be reached" in log.read_text()


def header(model: checkpoint.Checkpoint) -> str:
    """The HTML at the head of a model's page."""
    models = Models({model.name: model})
    try:
        components = pages.build(Catalogue.of(models)).get_config_file()["components"]
    finally:
        models.close()
    return next(c["props"]["html_template"] for c in components if c["props"].get("elem_id") == "header")


def test_a_model_off_the_hub_is_shown_with_its_commit_and_a_cached_one_with_a_notice(tmp_path):
    model = checkpoint.load(make_model(tmp_path / "model", 8, 1, 20))
    pulled = dataclasses.replace(model, name="you/`${digits}", revision="0123456789abcdef" * 2 + "01234567")
    html = header(pulled)
    assert ">0123456</span>" in html
    assert "notice" not in html
    assert "`" not in html
    cached = dataclasses.replace(pulled, offline=True)
    assert 'data-text="notice.cached"' in header(cached)
