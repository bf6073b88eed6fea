"""What the page takes from Gradio's insides is where it was. If a test fails, a newer Gradio has moved something."""

import inspect
import json
import urllib.error
import urllib.request

import gradio as gr
import pytest
from coroutines import completed
from fastapi import HTTPException

import ddpm.ui.gradio as ours
from ddpm.ui.endpoints import Argument, Endpoint

MOVED = f"Gradio {gr.__version__} has moved "


def need(found: object, what: str) -> None:
    assert found, MOVED + what + ", which ddpm/ui/gradio.py relies on"


SCRIPT = "element.onclick = () => { trigger('asked', { n: 1 }); server.double(2); };"
ENDPOINT = Endpoint(
    "Halve a number.",
    {"n": Argument(int, "a whole number", range=(0, 9)), "seed": Argument(int, "of the noise", default=7)},
    "half",
    {"half": {"type": "number"}},
    concurrency_id="api-test",
    concurrency_limit=1,
)


@pytest.fixture(scope="module")
def blocks() -> gr.Blocks:
    """A page with one panel, one event and one endpoint."""

    def double(n: int) -> int:
        return 2 * n

    with gr.Blocks() as made:
        ours.add_endpoint(made, "halve", lambda n, seed, in_vain: {"half": n / 2 + seed}, ENDPOINT)
        panel = ours.live_html("<p>still</p>", SCRIPT, [double], elem_id="panel", own_prop=3)
        ours.stream(panel, "asked", lambda sent: iter([{"got": sent}]), 1, "model")
    return made


@pytest.fixture(scope="module")
def url(blocks):
    """The page as it is served."""
    ours.queued(blocks, max_size=24)
    _, address, _ = blocks.launch(quiet=True, prevent_thread_lock=True, **ours.launch_options(blocks, 10_000))
    yield address
    blocks.close()


def post(url: str, path: str, body: object) -> tuple[int, str]:
    """Status and text of an answer."""
    content = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}gradio_api/{path}", json.dumps(body).encode(), content)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def component(blocks: gr.Blocks) -> dict:
    return next(c for c in blocks.get_config_file()["components"] if c["props"].get("elem_id") == "panel")


def test_our_module_is_not_taken_for_gradio_itself():
    assert ours.gr is gr
    assert gr.__name__ == "gradio"
    assert hasattr(gr, "Blocks")


def test_katex_is_among_the_files_that_gradio_serves(url):
    files = ours.katex_files()
    need(files, "KaTeX (templates/frontend/assets/katex-*.js and .css)")
    for kind, what in (("js", b"katex"), ("css", b".katex")):
        with urllib.request.urlopen(url + files[kind], timeout=60) as answer:
            need(what in answer.read(), f"KaTeX: {files[kind]} is something else")


def test_the_font_has_a_bold_file_of_weight_700(url):
    sheet = ours.FONT.stylesheet()
    need(sheet.get("css"), "the style sheet of themes.LocalFont")
    need("700" in sheet["css"] or "Bold" in sheet["css"], "the bold file of Source Sans Pro")


def test_panels_keep_their_template_script_and_props(blocks):
    props = component(blocks)["props"]
    need(props.get("html_template") == "<p>still</p>", "html_template of gr.HTML")
    need(props.get("js_on_load") == SCRIPT, "js_on_load of gr.HTML")
    need((props.get("props") or props).get("own_prop") == 3, "the props of gr.HTML, which its script reads")
    need(props.get("server_fns") == ["double"], "server_functions of gr.HTML (server_fns in the page's description)")


def test_server_functions_are_called_by_name_with_one_argument(blocks, url):
    body = {"session_hash": "s", "component_id": component(blocks)["id"], "fn_name": "double", "data": 21}
    need(post(url, "component_server", body) == (200, "42"), "the way in which scripts call server functions")


def test_a_fault_of_ours_in_a_look_up_is_logged_and_not_told(caplog):
    broken = ours.logged(lambda asked: {}[asked])
    with pytest.raises(HTTPException) as answer:
        completed(broken("/etc/passwd"))
    assert (answer.value.status_code, answer.value.detail) == (500, "the server could not answer")
    assert "KeyError: '/etc/passwd'" in caplog.text


def test_events_hand_over_what_the_browser_sent(blocks, url):
    need("_data" in vars(gr.EventData(None, {"n": 1})), "EventData._data")
    (event,) = [d for d in blocks.get_config_file()["dependencies"] if d["targets"]]
    need(event["targets"][0][1] == "asked", "the names of events")
    need(event["api_visibility"] == "private", "api_visibility, which hides the page's events")
    body = {"data": [], "session_hash": "one", "event_data": {"n": 1}, "fn_index": event["id"]}
    body["trigger_id"] = event["targets"][0][0]
    status, answer = post(url, "queue/join", body)
    need(status == 200, f"the queue, or what it takes: {answer}")
    with urllib.request.urlopen(f"{url}gradio_api/queue/data?session_hash=one", timeout=60) as stream:
        messages = [json.loads(line[5:]) for line in stream if line.startswith(b"data:")]
    sent = [m["output"]["data"] for m in messages if m["msg"] == "process_generating"]
    need(sent and {"got": {"n": 1}} in sent[0], "what an event brings, or the form of its answer")


def test_endpoints_have_schemas_that_can_be_extended(blocks):
    (made,) = [f for f in blocks.fns.values() if f.api_name == "halve"]
    need(all(hasattr(c, "_api_info") and hasattr(c, "label") for c in made.inputs + made.outputs), "Api._api_info")
    described = blocks.get_api_info()["named_endpoints"]["/halve"]
    n, seed = described["parameters"]
    need((n["parameter_name"], n["label"], n["parameter_has_default"]) == ("n", "n", False), "a parameter's name")
    need((n["type"].get("minimum"), n["type"].get("maximum")) == (0, 9), "the range of a parameter")
    need(n["python_type"]["description"] == "a whole number", "the description of a parameter")
    need((seed["parameter_has_default"], seed["parameter_default"]) == (True, 7), "the default of a parameter")
    need(described["description"].startswith("Halve a number."), "the description of an endpoint")
    (answer,) = described["returns"]
    need(answer["type"].get("properties") == {"half": {"type": "number"}}, "the schema of an answer")
    need(answer["type"].get("additional_description") == "half", "the description of an answer")


@pytest.mark.parametrize(("path", "body"), [("call/halve", {"data": [4, 7]}), ("call/v2/halve", {"n": 4})])
def test_endpoints_take_a_list_of_all_arguments_or_some_by_name(url, path, body):
    status, joined = post(url, path, body)
    need(status == 200, f"the endpoints: {joined}")
    with urllib.request.urlopen(f"{url}gradio_api/call/halve/{json.loads(joined)['event_id']}", timeout=60) as stream:
        answer = stream.read().decode()
    need('"half": 9.0' in answer or '"half":9.0' in answer, f"how an endpoint's function is called: {answer}")


def test_launch_takes_our_options(blocks):
    known = inspect.signature(gr.Blocks.launch).parameters
    unknown = [name for name in ours.launch_options(blocks, 1) if name not in known]
    need(not unknown, f"options of launch: {', '.join(unknown)}")
    for name in ("server_name", "server_port", "theme", "head", "quiet", "prevent_thread_lock"):
        need(name in known, f"launch(..., {name}=)")


def test_no_call_is_stored_in_the_browser(blocks, url):
    need(blocks.get_config_file().get("run_history") is False, "run_history")
