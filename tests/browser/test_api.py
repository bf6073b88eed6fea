"""The public endpoints through what people use: gradio_client, plain HTTP, MCP. Their description is a promise."""

import base64
import io
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from coroutines import completed
from gradio_client import Client
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image

from ddpm.checkpoint import load
from ddpm.elbo import elbo_terms
from ddpm.sampling import sample

DESCRIPTION = Path(__file__).parents[1] / "api.json"
ENDPOINTS = ("/q_sample", "/predict_noise", "/sample", "/elbo_terms", "/classify", "/inpaint")
PICTURE = np.random.default_rng(0).integers(0, 256, (28, 28)).tolist()


@pytest.fixture(scope="module")
def client(url) -> Client:
    return Client(url, verbose=False)


@pytest.fixture(scope="module")
def checkpoint(model):
    return load(model)


def tensor(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(1, 1, 28, 28)


X0 = (tensor(PICTURE) / 127.5 - 1).float()


def call(url: str, name: str, body: dict | list) -> tuple[str, object]:
    """What curl does: post, then read the stream. A list of all arguments, or some by name (v2)."""
    version = "" if isinstance(body, list) else "v2/"
    request = urllib.request.Request(
        f"{url}gradio_api/call/{version}{name}",
        json.dumps({"data": body} if isinstance(body, list) else body).encode(),
        {"Content-Type": "application/json"},
    )
    event = json.load(urllib.request.urlopen(request, timeout=60))["event_id"]
    stream = urllib.request.urlopen(f"{url}gradio_api/call/{name}/{event}", timeout=60).read().decode()
    kind, data = stream.strip().split("\n\n")[-1].split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_the_description_is_the_stored_one(client):
    """Other programs are written against it. Where a change is meant: DDPM_WRITE_API=1 writes it anew."""
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for endpoint in described.values():
        endpoint.pop("code_snippets", None)  # names the port
    if os.environ.get("DDPM_WRITE_API"):
        DESCRIPTION.write_text(json.dumps(described, indent=1) + "\n")
    assert tuple(described) == ENDPOINTS, "these and no other: what the page asks for is not public"
    assert described == json.loads(DESCRIPTION.read_text())


def test_every_argument_is_described_with_its_range(client):
    for name, endpoint in client.view_api(return_format="dict", print_info=False)["named_endpoints"].items():
        assert endpoint["description"], name
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["description"], (name, parameter["parameter_name"])
            if parameter["type"].get("type") in ("integer", "number"):
                assert parameter["type"]["minimum"] < parameter["type"]["maximum"]


def test_q_sample_is_that_of_the_schedule(client, checkpoint):
    answer = client.predict(t=300, x0=PICTURE, seed=5, api_name="/q_sample")
    eps = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    at = torch.tensor([299])
    assert torch.allclose(tensor(answer["eps"]).float(), eps, atol=1e-6)
    assert torch.allclose(tensor(answer["xt"]).float(), checkpoint.schedule.q_sample(X0, eps, at), atol=1e-5)
    assert answer["alpha_bar"] == pytest.approx(checkpoint.schedule.alpha_bar[299].item())


def test_predict_noise_is_that_of_the_network(client, checkpoint):
    xt = client.predict(300, PICTURE, api_name="/q_sample")["xt"]
    answer = client.predict(xt, 300, api_name="/predict_noise")
    at, x = torch.tensor([299]), tensor(xt).float()
    eps_hat = checkpoint.engine()(x, at)
    assert torch.allclose(tensor(answer["eps_hat"]).float(), eps_hat, atol=1e-4)
    x0_hat = checkpoint.schedule.predict_x0(x, eps_hat, at)
    assert torch.allclose(tensor(answer["x0_hat"]).float(), x0_hat, atol=1e-3)


def test_sample_is_that_of_the_library(client, checkpoint):
    options = {"sampler": "ddpm_fixed_large", "num_inference_steps": 8, "seed": 21}
    answer = client.predict(**options, num_images=2, api_name="/sample")
    drawn = sample(checkpoint.engine(), checkpoint.scheduler, (2, 1, 28, 28), **options)
    expected = ((drawn + 1) * 127.5).round().clamp(0, 255)[:, 0]
    assert (torch.tensor(answer["images"]) - expected).abs().max() <= 1
    assert client.predict(**options, num_images=2, api_name="/sample")["images"] == answer["images"]


MASK = [[0] * 14 + [1] * 14] * 28


def test_inpaint_leaves_known_pixels_to_the_byte_by_http_and_by_mcp(client, checkpoint, url):
    asked = {"mask": MASK, "x0": PICTURE, "jumps": 2, "num_inference_steps": 4, "num_images": 2, "seed": 3}
    answer = client.predict(**asked, api_name="/inpaint")
    images, known, erased = np.array(answer["images"]), np.array(PICTURE), np.array(MASK)
    assert (images[:, erased == 0] == known[erased == 0]).all()
    options = {"jumps": 2, "num_inference_steps": 4, "seed": 3, "known": X0[0], "mask": torch.tensor(MASK)}
    drawn = sample(checkpoint.engine(), checkpoint.scheduler, (2, 1, 28, 28), **options)
    assert np.abs(images - ((drawn + 1) * 127.5).round().clamp(0, 255)[:, 0].numpy()).max() <= 1
    _, by_tool = tools(url, ("inpaint", asked))
    assert by_tool.content[0].type == "image"
    assert by_tool.structuredContent["images"] == answer["images"]


@pytest.mark.slow
def test_elbo_terms_are_those_of_the_library(client, checkpoint):
    answer = client.predict(x0=PICTURE, seed=3, api_name="/elbo_terms")
    generator = torch.Generator().manual_seed(3)
    truth = elbo_terms(checkpoint.engine(), checkpoint.schedule, X0, generator=generator, batch_size=64)
    assert answer["total"] == pytest.approx(truth.total.item(), abs=1e-5)
    assert answer["prior"] + sum(answer["kl"]) + answer["reconstruction"] == pytest.approx(answer["total"], abs=1e-9)
    assert np.abs(np.array(answer["kl"]) - truth.kl[0].numpy()).max() < 1e-5
    assert np.abs(np.array(answer["eps_mse"]) - truth.eps_mse[0].numpy()).max() < 1e-5


BAD = [
    ("/q_sample", {"t": 0}, "t = 0: a whole number from 1 to 1000"),
    ("/q_sample", {"t": 1001}, "from 1 to 1000"),
    ("/q_sample", {"t": 2.5}, "t = 2.5: a whole number from 1 to 1000"),
    ("/q_sample", {"t": True}, "from 1 to 1000"),
    ("/q_sample", {"t": "5"}, "from 1 to 1000"),
    ("/q_sample", {"t": None}, "t = nothing: a whole number from 1 to 1000"),
    ("/q_sample", {"t": 5, "seed": -1}, "seed = -1: a whole number from 0 to 2147483647"),
    ("/q_sample", {"t": 5, "x0": [[0] * 28] * 27}, "x0: nested lists of 28 x 28 numbers from 0 to 255"),
    ("/q_sample", {"t": 5, "x0": [[0] * 28] * 27 + [[0] * 27]}, "28 x 28"),
    ("/q_sample", {"t": 5, "x0": [["a"] * 28] * 28}, "28 x 28"),
    ("/q_sample", {"t": 5, "x0": [[256] * 28] * 28}, r"x0\[0, 0\] = 256: a whole number from 0 to 255"),
    ("/q_sample", {"t": 5, "x0": [[0.5] * 28] * 28}, r"x0\[0, 0\] = 0.5: a whole number from 0 to 255"),
    ("/predict_noise", {"xt": [[21] * 28] * 28, "t": 5}, r"xt\[0, 0\] = 21: a number from -20 to 20"),
    ("/predict_noise", {"xt": [[0.0] * 28] * 28, "t": 10**30}, "from 1 to 1000"),
    ("/sample", {"num_images": 17}, "num_images = 17: a whole number from 1 to 16"),
    ("/sample", {"num_inference_steps": 1001}, "from 1 to 1000"),
    ("/sample", {"sampler": "euler"}, "one of ddpm, "),
    ("/sample", {"eta": 1.5}, "eta = 1.5: a number from 0 to 1"),
    ("/sample", {"label": "3"}, "label = 3: the model was trained without labels, so it has none to ask for"),
    ("/sample", {"guidance_scale": 20.5}, "guidance_scale = 20.5: a number from 0 to 20"),
    ("/inpaint", {"mask": [[0] * 28] * 28}, "mask: 1 where the picture is to be filled in, at one pixel at least"),
    ("/inpaint", {"mask": [[2] * 28] * 28}, r"mask\[0, 0\] = 2: a whole number from 0 to 1"),
    ("/inpaint", {"mask": [[1] * 28] * 28, "jumps": 21}, "jumps = 21: a whole number from 0 to 20"),
    ("/inpaint", {"mask": [[1] * 28] * 28, "sampler": "dpm_solver++"}, "one of ddpm, ddpm_fixed_small, "),
    ("/classify", {}, "The model was trained without labels, so it cannot tell which label a picture has"),
    ("/elbo_terms", {"x0": {}}, "x0: an object was sent, but this is needed: clean picture, 28 rows of 28 numbers"),
    ("/predict_noise", {"xt": [[{"meta": {"_type": "gradio.FileData"}}]], "t": 5}, "xt: an object was sent"),
    ("/elbo_terms", {"seed": 2**31}, "from 0 to 2147483647"),
    ("/elbo_terms", {"model": "emoji"}, "model = emoji: one of tiny-gray is needed"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_what_is_out_of_range_is_refused_with_the_range(client, name, arguments, message):
    with pytest.raises(Exception, match=message):
        client.predict(**arguments, api_name=name)


def test_plain_http_with_a_list_and_with_names(url):
    kind, (by_list,) = call(url, "q_sample", [300, None, 5])
    assert kind == "complete"
    assert np.shape(by_list["xt"]) == (28, 28)
    assert call(url, "q_sample", {"t": 300, "seed": 5}) == ("complete", [by_list])
    assert call(url, "q_sample", [300, None, 5, "tiny-gray"]) == ("complete", [by_list]), "the list names the model"
    kind, refused = call(url, "q_sample", {"t": 3000})
    assert kind == "error"
    assert refused["error"] == "t = 3000: a whole number from 1 to 1000 is needed"
    kind, refused = call(url, "predict_noise", [[[float("nan")] * 28] * 28, 5])  # no JSON, but Python reads it
    assert kind == "error"
    assert "xt[0, 0] = nan: a number from -20 to 20" in refused["error"]


def test_what_cannot_be_read_is_refused_with_the_name_of_the_argument(url):
    for body, told in (
        ({"seed": 5}, "t is missing: /q_sample takes t, x0, seed, model"),
        ({"t": 300, "steps": 5}, "steps is not an argument: /q_sample takes t, x0, seed, model"),
        ([300], "x0 is missing: /q_sample takes t, x0, seed, model"),
        ([300, None, 5, "", 1], "5 values came, and /q_sample takes t, x0, seed, model"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            call(url, "q_sample", body)
        assert refused.value.code == 422
        assert told in json.load(refused.value)["error"]


def tools(url: str, *calls: tuple[str, dict]) -> list:
    """What MCP's own client gets: the list of tools, then the answer to each call."""

    async def talk():
        async with (
            streamablehttp_client(f"{url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return [(await session.list_tools()).tools, *[await session.call_tool(*each) for each in calls]]

    return completed(talk())


def test_mcp_answers_in_json_what_plain_http_does(url):
    described, noised, guessed = tools(
        url,
        ("q_sample", {"t": 300, "seed": 5}),
        ("predict_noise", {"t": 5, "xt": [[0.5] * 28] * 28}),
    )
    assert {f"/{tool.name}" for tool in described} == set(ENDPOINTS)
    assert all(tool.description and tool.inputSchema["properties"] for tool in described)
    assert described[0].inputSchema["properties"]["t"]["maximum"] == 1000
    for answer, (name, body) in (
        (noised, ("q_sample", [300, None, 5])),
        (guessed, ("predict_noise", [[[0.5] * 28] * 28, 5])),
    ):
        (text,) = answer.content
        assert not answer.isError
        assert json.loads(text.text) == answer.structuredContent == call(url, name, body)[1][0]


def test_mcp_shows_the_pictures_of_a_sample(url):
    _, drawn = tools(url, ("sample", {"num_images": 5, "num_inference_steps": 3, "seed": 2}))
    picture, text = drawn.content
    assert (picture.type, picture.mimeType) == ("image", "image/png")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.data))))
    images = np.array(drawn.structuredContent["images"])
    assert json.loads(text.text) == drawn.structuredContent
    assert images.shape == (5, 28, 28)
    for i, image in enumerate(images):  # three in a row, each magnified twice, with a gap of 2 px
        y, x = 2 + i // 3 * 58, 2 + i % 3 * 58
        assert (shown[y : y + 56, x : x + 56][::2, ::2] == image).all()


def test_mcp_sums_the_terms_of_the_bound_up_unless_they_are_asked_for(url):
    described, short, whole = tools(
        url, ("elbo_terms", {"x0": PICTURE}), ("elbo_terms", {"x0": PICTURE, "terms": True})
    )
    assert described[3].inputSchema["properties"]["terms"]["type"] == "boolean"
    terms = whole.structuredContent
    assert terms == call(url, "elbo_terms", {"x0": PICTURE})[1][0]
    assert (len(terms["kl"]), len(terms["eps_mse"])) == (999, 1000)
    sums = short.structuredContent
    assert len(json.dumps(sums)) < 200
    assert {key: sums[key] for key in ("prior", "reconstruction", "total")} == {
        key: terms[key] for key in ("prior", "reconstruction", "total")
    }
    assert sums["kl_sum"] == pytest.approx(sum(terms["kl"]))
    assert sums["eps_mse_mean"] == pytest.approx(np.mean(terms["eps_mse"]))


def test_mcp_refuses_with_the_name_of_the_argument(url):
    calls = {
        "seed = -1: a whole number from 0 to 2147483647 is needed": ("elbo_terms", {"seed": -1}),
        "28 x 28 numbers from 0 to 255": ("elbo_terms", {"x0": [[0]]}),
        "x0: nested lists of 28 x 28 numbers": ("elbo_terms", {"x0": "../../etc/passwd"}),
        "t is missing: /q_sample takes t, x0, seed, model": ("q_sample", {}),
        "steps is not an argument: /q_sample takes t, x0, seed, model": ("q_sample", {"t": 5, "steps": 5}),
        "x0: an object was sent": ("q_sample", {"t": 5, "x0": [[{"path": "/etc/passwd", "meta": {}}]]}),
        "terms: true or false is needed": ("elbo_terms", {"terms": 1}),
        "no such tool; there are q_sample": ("upload_file", {}),
    }
    _, *answers = tools(url, *calls.values())
    for told, answer in zip(calls, answers, strict=True):
        assert answer.isError
        assert told in answer.content[0].text
        assert "passwd" not in answer.content[0].text
