"""Links that open a tab with its settings, and the tour that is made of them."""

import re
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from harness import Visit, serious
from playwright.sync_api import Page, expect

from ddpm.ui.panels import read_static
from ddpm.ui.text import TEXT

# A tab's settings, none of them what the page begins with, and a script that reads them off its controls.
PRESSED = "[...document.querySelectorAll('#%s .switch button')].find((b) => b.ariaPressed === 'true')?.dataset.value"
FORM = "[...document.querySelector('#reverse form').elements].filter((e) => e.name).map((e) => e.value)"
LINKS = {
    "forward": ({"schedule": "sigmoid"}, "[document.querySelector('[name=schedule]').value]"),
    "noise": ({"reading": "v"}, f"[{PRESSED % 'noise'}]"),
    "bound": (
        {"loss": "simple", "variance": "fixed_large"},
        """['loss', 'variance'].map((name) => ddpm.switchOf(document.querySelector(`[data-label="bound.${name}"]`)).value())""",
    ),
    "compare": (
        {"rows": "ddim:20:0.5,ddpm:7,dpm_solver++:3:1", "images": "2", "seed": "99"},
        """[...document.querySelectorAll('#compare .row')].map((row) => ['sampler', 'num_inference_steps', 'eta']
            .map((name) => row.querySelector(`[name=${name}]`)).filter((field) => !field.closest('[hidden]'))
            .map((field) => field.value).join(':')).concat(['num_images', 'seed']
            .map((name) => document.querySelector(`#compare [name=${name}]`).value))""",
    ),
    "mine": (
        {"kind": "between", "sampler": "ddim", "images": "3", "seed": "99", "second": "4"},
        f"[{PRESSED % 'mine'}].concat({FORM.replace('reverse', 'mine')}, ['4'])",
    ),
    "wrong": (
        {"fault": "few_steps", "amount": "5", "seed": "7"},
        f"[{PRESSED % 'wrong'}, document.querySelector('#wrong .amount input').value, '7']",
    ),
    "reverse": ({"sampler": "dpm_solver++", "eta": "0.3", "steps": "20", "images": "2", "seed": "99"}, FORM),
}
SHARED = {"t": "312", "example": "5", "noise": "11"}
SHARED_NOW = "['t', 'noise'].map((name) => String(ddpm.shared.get(name))).concat(String(ddpm.example.get()))"

STOPS = ["forward", "loss", "target", "bound", "weights", "reverse", "compare", "mine", "wrong", "training"]
# What a stop speaks of and the slider are free of the panel, and the slider does not lie over the pictures.
IN_REACH = """(tab) => {
    const [spoken, bar] = ['.toured', '.t-bar'].map((s) => document.querySelector(`#${tab} ${s}`));
    const box = spoken.getBoundingClientRect();
    const end = (bar && !spoken.contains(bar) ? bar : document.querySelector('.tour')).getBoundingClientRect().top;
    if (box.top < 0 || (box.bottom > end && box.top > 20)) return false;
    const [slider, panel] = [`#${tab} .t-bar input`, '.tour'].map((s) => document.querySelector(s)?.getBoundingClientRect());
    return !slider || (slider.top > 0 && slider.bottom <= panel.top && panel.height < innerHeight / 2
        && document.elementFromPoint(slider.left + 5, slider.top + 10).matches('.t-bar input')); }"""
TAB_OF = {"loss": "noise", "target": "noise", "weights": "bound"}  # of the others, their name


def follow(visit: Visit, tab: str, **settings: str) -> Page:
    """Open a link; back when its tab is there."""
    visit.page.goto(
        f"{visit.url}?" + "&".join(f"{name}={quote(value)}" for name, value in ({"tab": tab} | settings).items())
    )
    expect(visit.page.locator(f"#{tab} canvas").first).to_be_visible()
    return visit.page


@pytest.mark.slow
@pytest.mark.parametrize("tab", LINKS)
def test_a_copied_link_opens_what_it_was_copied_from(visit, tab):
    settings, read = LINKS[tab]
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = follow(visit, tab, lang="en", **settings, **SHARED)
    expect(page.locator(f"#tab-{tab}-button")).to_have_attribute("aria-selected", "true")
    page.wait_for_function(f"(wanted) => {read}.join() === wanted", arg=",".join(settings.values()))
    assert page.evaluate(SHARED_NOW) == ["312", "11", "5"]
    steps = page.evaluate("history.length")
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).to_have_text(TEXT["en"]["link.copied"])
    copied = page.evaluate("navigator.clipboard.readText()")
    expected = {"lang": "en", "tab": tab, **settings, **SHARED}
    assert {name: value for name, (value,) in parse_qs(urlsplit(copied).query).items()} == expected
    assert page.url == copied
    assert page.evaluate("history.length") == steps


@pytest.mark.long
def test_a_link_draws_what_it_was_copied_from(visit):
    """Where its settings are those of the stored example, that is shown, at the t of the link."""
    for tab, settings, said in (
        ("reverse", {"sampler": "ddim", "steps": "20", "images": "2", "seed": "98"}, "DDIM, 20 steps, seed 98"),
        ("reverse", {"images": "8", "seed": "0"}, "Stored example"),
        (
            "compare",
            {"rows": "ddim:10,ddpm:7", "images": "2", "seed": "98"},
            "2 rows start from the same noise, seed 98",
        ),
        ("wrong", {"fault": "short_T", "amount": "500", "seed": "98"}, "Both rows start from the same noise, seed 98"),
        ("wrong", {"fault": "no_noise", "seed": "1"}, "Stored example"),
        ("mine", {"sampler": "ddim", "images": "2", "seed": "98"}, "2 pictures from t₀ = 400"),
    ):
        page = follow(visit, tab, lang="en", **settings, t="400")
        expect(page.locator(f"#{tab} .status:not(.picker-status)")).to_contain_text(said, timeout=120_000)
        assert page.evaluate("ddpm.shared.get('t')") == 400
        assert page.locator(f"#{tab} .t-now").inner_text() == "400"
        sent = [asked for asked in visit.requests if "/queue/join" in asked]
        assert len(sent) == (0 if "Stored" in said else 1), "all settings make one run"
        visit.requests.clear()


@pytest.mark.slow
def test_a_link_to_finished_pictures_opens_at_them(visit):
    page = follow(visit, "compare", lang="en")
    expect(page.locator("#compare .status").first).to_contain_text("Stored example", timeout=180_000)
    expect(page.locator("#compare .t-now")).to_have_text("0")
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).not_to_be_empty()
    page.goto(page.url)
    expect(page.locator("#compare .status").first).to_contain_text("Stored example", timeout=180_000)
    expect(page.locator("#compare .t-now")).to_have_text("0")


@pytest.mark.long
def test_every_tab_of_the_page_has_a_link(visit):
    page = visit.open()
    tabs = page.evaluate("ddpm.tabs()")
    assert LINKS.keys() <= set(tabs)
    for tab in tabs:
        page.locator(f"#tab-{tab}-button").click()
        expect(page.locator(f"#{tab} canvas").first).to_be_visible()
        page.locator(".copy-link").click()
        expect(page.locator(".page-status")).not_to_be_empty()
        assert f"tab={tab}" in page.url


@pytest.mark.slow
def test_what_a_link_asks_for_in_vain_is_named_and_the_rest_is_taken(visit):
    page = follow(
        visit,
        "reverse",
        lang="en",
        sampler="magic",
        steps="5000",
        seed="-1",
        eta="x",
        images="2",
        t="0",
        example="99",
        foo="1",
    )
    line = page.locator(".page-status")
    for said in (
        "sampler = magic: one of ddpm, ",
        "steps = 5000: one of 10, 20, ",
        "seed = -1: a whole number from 0 to 2147483647",
        "eta = x: a number from 0 to 1",
        "t = 0: a whole number from 1 to 1000",
        "example = 99: a whole number from 0 to 9",
        "foo: there is no such setting here",
    ):
        expect(line).to_contain_text(said)
    assert page.evaluate(FORM) == ["ddim", "0", "50", "2", "0"], "sampler, eta, steps, images, seed"
    assert page.evaluate(SHARED_NOW) == ["300", "7", "3"]
    page.locator('[data-language="zh"]').click()
    expect(line).to_contain_text("sampler = magic：只能是 ddpm")


def test_an_address_of_nonsense_still_opens_the_page(visit):
    page = follow(visit, "forward", lang="en", schedule="<img src=x onerror=alert(1)>$\\bar x$", t="1e2", tour="x")
    line = page.locator(".page-status")
    expect(line).to_contain_text("<img src=x onerror=alert(1)>$\\bar x$")
    expect(line).to_contain_text("t = 1e2")
    expect(line).to_contain_text("tour = x")
    assert line.locator("*").count() == 0, "it is text"
    page.goto(f"{visit.url}?lang=fr&tab=nowhere&utm_source=a&t=40&steps=20&foo=1")
    expect(line).to_have_text(
        "The page ignored a part of the link: lang = fr: one of en, zh is needed · tab = nowhere: one of forward, "
        "noise, bound, reverse, labels, compare, mine, wrong, training is needed · steps = 20: this setting belongs to a tab, "
        "and the link names no tab of this page · foo: there is no such setting here."
    )
    expect(page.locator("#forward canvas").first).to_be_visible()
    assert page.evaluate("ddpm.shared.get('t')") == 40, "all tabs have it"


def test_a_setting_without_its_tab_is_named_and_what_may_be_for_others_is_not(visit):
    page = visit.open("lang=en&seed=5&foo=1")
    expect(page.locator(".page-status")).to_contain_text("seed = 5: this setting belongs to a tab")
    expect(page.locator(".page-status")).not_to_contain_text("foo")


def test_the_page_knows_all_settings_of_its_tabs():
    """Before a tab has been in front, it has not said yet which settings it has."""
    named = re.search(r'OF_TABS =\s*\(?\s*"([a-z ]+)"', read_static("static/links.js"))[1].split()
    calls = [re.search(r"ddpm\.linkable\(\s*\"(\w+)\",\s*\{([^}]*)\}", read_static(f"tabs/{tab}.js")) for tab in LINKS]
    assert [call[1] for call in calls] == list(LINKS)
    assert set(named) == {name for call in calls for name in re.findall(r"(\w+)(?::[^,]*)?(?:,|$)", call[2])}


# What advertisers, newsletters, search engines, messengers and the Hub append to the links that people pass on.
APPENDED = (
    "fbclid=IwAR0a gclid=Cj0K gclsrc=aw.ds gad_source=1 gbraid=0 wbraid=0 dclid=0 msclkid=9 yclid=1 ysclid=l ttclid=E.C "
    "twclid=2 li_fat_id=3 igsh=MzR igshid=Nz rdt_cid=5 ScCid=6 epik=dj0 srsltid=Af utm_source=x utm_medium=y utm_id=7 "
    "mc_cid=a mc_eid=b mkt_tok=c vero_id=d oly_enc_id=e _hsenc=p2 _hsmi=8 hsa_acc=1 _ga=2.1 _gl=1*x s_kwcid=AL! wt_mc=f "
    "wt.mc_id=g pk_campaign=h mtm_source=i at_medium=j ns_source=k ref=l ref_src=twsrc spm=a2 spm_id_from=333 "
    "share_source=m vd_source=n from=timeline isappinstalled=0 si=o trk=p __theme=dark __sign=eyJ logs=build"
)


@pytest.mark.long
def test_what_others_append_to_a_link_is_no_fault_of_it(visit):
    visit.page.goto(f"{visit.url}?lang=en&tab=noise&{APPENDED.replace(' ', '&')}&reading=v")
    page = visit.page
    page.wait_for_function(f"{PRESSED % 'noise'} === 'v'")
    expect(page.locator(".page-status")).to_be_empty()
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).not_to_be_empty()
    names = set(parse_qs(urlsplit(page.url).query))
    assert names == {"lang", "tab", "reading", "__theme", *SHARED}, "and nobody gets it from us"


@pytest.mark.slow
def test_the_tour_shows_what_it_speaks_of(visit):
    page = follow(visit, "mine", lang="en", kind="between")
    page.wait_for_function(f"{PRESSED % 'mine'} === 'between'")
    page.evaluate("ddpm.tour.start(7)")
    expect(page.locator("#tour-title")).to_have_text(TEXT["en"]["tour.mine.title"])
    page.wait_for_function(f"{PRESSED % 'mine'} === 'several'")


def test_without_leave_to_copy_the_link_is_there_to_be_copied_by_hand(visit):
    visit.page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page = visit.open()
    page.evaluate("document.execCommand = () => false")
    page.locator("#forward .clear").click()
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).to_have_text(TEXT["en"]["link.by_hand"])
    field = page.locator(".link-field")
    expect(field).to_be_focused()
    assert field.input_value() == page.url
    assert page.evaluate("getSelection().toString()") == page.url
    assert "example" not in page.url, "the sheet is empty"
    page.evaluate("delete document.execCommand")
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).to_have_text(TEXT["en"]["link.copied.drawn"])
    expect(field).to_be_hidden()
    expect(page.locator(".copy-link")).to_be_focused()


def test_every_stop_has_its_words():
    names = re.findall(r'\{ name: "(\w+)"', read_static("static/tour.js"))
    assert [name for name in names if name != "labels"] == STOPS, "a model without labels has no stop for them"
    assert names.index("labels") == names.index("reverse") + 1
    assert {f"tour.{name}.{part}" for name in names for part in ("title", "body", "try")} <= TEXT["en"].keys()


@pytest.mark.slow
def test_the_whole_tour_by_keyboard(visit):
    page = visit.open()
    page.locator(".tour-start").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tour-title")).to_be_focused()
    tabs = page.evaluate("ddpm.tabs()")
    names = [name for name in STOPS if TAB_OF.get(name, name) in tabs]
    for i, name in enumerate(names, 1):
        tab = TAB_OF.get(name, name)
        expect(page.locator(".tour-place")).to_have_text(f"{i} of {len(names)}")
        expect(page.locator("#tour-title")).to_have_text(TEXT["en"][f"tour.{name}.title"])
        expect(page.locator(f"#tab-{tab}-button")).to_have_attribute("aria-selected", "true")
        expect(page.locator(f"#{tab} .toured")).to_be_visible()
        page.wait_for_function(IN_REACH, arg=tab)
        if i == 2:
            assert page.evaluate("ddpm.shared.get('t')") == 500
        while page.evaluate("!document.activeElement.matches('.tour-next')"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.querySelector('.tour').contains(document.activeElement)")
        page.keyboard.press("Enter")
    expect(page.locator(".tour")).to_be_hidden()
    expect(page.locator(".tour-start")).to_be_focused()
    assert page.locator(".toured").count() == 0
    page.keyboard.press("Enter")
    page.locator(".tour-there").click()
    assert page.evaluate("!!document.activeElement.closest('#forward .stage')")
    page.keyboard.press("Escape")
    expect(page.locator(".tour")).to_be_hidden()
    page.reload()
    expect(page.locator("#forward canvas").first).to_be_visible()
    assert page.locator(".tour").count() == 0, "nothing is kept"


@pytest.mark.slow
def test_a_link_into_the_tour_on_a_phone_in_chinese(phone):
    page = phone.page
    page.goto(f"{phone.url}?lang=zh&tour=2")
    for name, tab in (
        ("loss", "noise"),
        ("target", "noise"),
        ("bound", "bound"),
        ("weights", "bound"),
        ("reverse", "reverse"),
    ):
        expect(page.locator("#tour-title")).to_have_text(TEXT["zh"][f"tour.{name}.title"])
        expect(page.locator(f"#{tab} .toured")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        page.wait_for_function(IN_REACH, arg=tab)
        if name != "reverse":
            page.locator(".tour-next").click()
    page.locator('[data-language="en"]').click()
    expect(page.locator(".tour-place")).to_contain_text(" of ")


@pytest.mark.long
def test_axe_finds_nothing_serious_in_the_tour(visit):
    page = follow(visit, "noise", lang="en", tour="2", foo="1")
    expect(page.locator("#noise .toured")).to_be_visible()
    expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done")
    assert serious(page) == []
    page.locator(".page-header .theme").click()
    assert serious(page) == [], "nor in the dark"


@pytest.mark.long
def test_axe_finds_nothing_serious_in_the_tour_on_a_phone(phone):
    page = phone.page
    page.set_viewport_size({"width": 390, "height": 500})
    page.goto(f"{phone.url}?lang=en&tour=4")
    expect(page.locator("#bound .toured")).to_be_visible()
    assert page.locator(".tour-text").evaluate("(text) => text.scrollHeight > text.clientHeight"), "it scrolls"
    assert serious(page) == []
