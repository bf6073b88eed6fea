// Links that open a tab with its settings: ?tab=reverse&sampler=ddim&steps=20&seed=7&t=312. The browser checks the
// values here; the header names each that cannot be used, and the page ignores it. After a reload the tabs get back the
// settings that they had.
// Needs memory.js, gradio.js, language.js, schedule.js, shared.js, frame.js, controls.js, picker.js; the header, for
// messages.
// Gives linkable, openTab, openAddress, addressOf, linkOf, copyLink, refuseSetting.
//
// A tab needs one call in its script, once its controls are there; opening and copying links follow from it:
//
//   ddpm.linkable("reverse", { sampler: form.elements.sampler, steps: form.elements.num_inference_steps }, ready);
//
// It maps names in the address to settings. `ready(named)`, if given, is called once all settings of an address are
// made, with the settings that the address names, to draw what they ask for. The names `tab`, `lang`, `model`,
// `tour`, `t`, `example` and `noise` are taken. A setting is
//   - a select, a number or range input: it accepts what its options, or min, max and step, allow. It gets the events
//     "input" and "change", as from a visitor. While it is hidden, no link contains it;
//   - a .switch of parts.switch: one of its buttons is pressed;
//   - anything else as { read(), apply(string), own() }: `read` returns its value, null for none; `apply` takes a
//     value, or returns [key, fields] of a refusal, e.g. ["refused.whole", { low: 0, high: 9 }]; {name} and {value} are
//     filled in here; `own`, if there is one, tells whether it is the visitor's own picture, which no link contains.
(() => {
  const { page, shared, say } = ddpm;

  // ---------------------------------------------------------------- settings

  function choice(choices, read, write) {
    return {
      read: () => (choices.includes(read()) ? read() : null),
      apply: (value) => (choices.includes(value) ? write(value) : ["refused.choice", { choices: choices.join(", ") }]),
    };
  }

  function number(low, high, whole, read, write) {
    const isNumber = (value) => /^-?\d+(\.\d+)?$/.test(value) && (!whole || Number.isInteger(Number(value)));
    const fits = (value) => isNumber(value) && Number(value) >= low && Number(value) <= high;
    return {
      read: () => (fits(String(read())) ? String(Number(read())) : null),
      apply: (value) =>
        fits(value) ? write(Number(value)) : [whole ? "refused.whole" : "refused.real", { low, high }],
    };
  }

  function settingOf(control) {
    if (control.apply) return control;
    if (control.matches(".switch")) {
      const { values, value, choose } = ddpm.switchOf(control);
      return choice(values, value, choose);
    }
    const read = () => (control.closest("[hidden]") ? null : control.value);
    const write = (value) => {
      control.value = value;
      for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
    };
    if (control.matches("select")) {
      const values = [...control.options].map((option) => option.value);
      return choice(values, read, write);
    }
    const limit = (name, otherwise) => (control[name] === "" ? otherwise : Number(control[name]));
    const whole = Number.isInteger(Number(control.step || 1));
    return number(limit("min", -Infinity), limit("max", Infinity), whole, read, write);
  }

  const bySettings = (controls) =>
    new Map(Object.entries(controls).map(([name, control]) => [name, settingOf(control)]));

  // The settings that all tabs share. A link contains the picture only if it is one of the examples.
  const tabHas = (selector) => document.querySelector(`#tab-${ddpm.inFront()} ${selector}`);
  const numExamples = () => (shared.get("examples")?.length ?? 0) / ddpm.count;
  const setShared = (name) => (value) => shared.set(name, value);
  const common = bySettings({
    // A tab ends at the finished pictures by itself, so a link to finished pictures has no t.
    t: number(1, ddpm.T, true, () => (tabHas(".t-bar input")?.value === "0" ? null : shared.get("t")), setShared("t")),
    example: {
      read: () => ddpm.example.get(),
      own: () => ddpm.example.own() && Boolean(tabHas(".pad")),
      apply(value) {
        if (numExamples()) return number(0, numExamples() - 1, true, ddpm.example.get, ddpm.example.set).apply(value);
        expected = value; // the examples have not come yet
      },
    },
    noise: number(0, page.max_seed, true, () => shared.get("noise"), setShared("noise")),
  });

  // ---------------------------------------------------------------- messages in the header

  const refusals = []; // functions, since the language may change
  const tell = (key, fields = () => ({})) => ddpm.notify(() => say(key, fields()));

  function refuse(name, value, [key, fields]) {
    const shown = value.length > 40 ? `${value.slice(0, 37)}...` : value;
    refusals.push(() => say(key, { ...fields, value: shown || say("refused.nothing"), name }));
    tell("link.refused", () => ({ list: refusals.map((refusal) => refusal()).join(" \u00b7 ") }));
  }

  function set(name, value, setting) {
    const refused = setting ? setting.apply(value) : ["link.unknown", {}];
    if (refused) refuse(name, value, refused);
  }

  let expected = null; // the example that a link named before there were any
  shared.on("examples", () => {
    if (expected === null || !numExamples()) return;
    const value = expected;
    expected = null;
    set("example", value, common.get("example"));
  });

  // ---------------------------------------------------------------- tabs

  const alive = new Map(); // tab -> {settings by name, ready}
  const waiting = new Map(); // tab -> functions to call once it is alive

  function linkable(tab, controls, ready = () => {}) {
    alive.set(tab, { settings: bySettings(controls), ready });
    if (tab in past) bringBack(tab);
    const known = waiting.get(tab) ?? [];
    waiting.delete(tab);
    for (const go of known) go();
  }

  function untilAlive(tab) {
    if (alive.has(tab)) return;
    return new Promise((go) => waiting.set(tab, [...(waiting.get(tab) ?? []), go]));
  }

  // Brings a tab to the front and applies `settings`, strings by their names in the address. Returns when it is done.
  //   draws: the tab then draws what they ask for.
  async function openTab(tab, settings = {}, draws = false) {
    await ddpm.untilTabs();
    const known = ddpm.tabs().includes(tab);
    if (!known) refuse("tab", tab, ["refused.choice", { choices: ddpm.tabs().join(", ") }]);
    const entries = Object.entries(settings);
    for (const [name, value] of entries) if (common.has(name)) set(name, value, common.get(name));
    const others = entries.filter(([name]) => !common.has(name));
    if (!known) return refuseAll(others);
    ddpm.bringToFront(tab);
    if (!others.length && !draws) return;
    await untilAlive(tab);
    const there = alive.get(tab);
    for (const [name, value] of others) set(name, value, there.settings.get(name));
    if (draws) there.ready(settings);
  }

  // ---------------------------------------------------------------- the address

  // All that the tabs pass to `linkable`, since a tab does so only once it has been in front.
  const OF_TABS =
    "amount erased eta fault images kind label loss reading rows s sampler schedule second seed steps under variance".split(
      " ",
    );
  // What others append to an address: advertisers, newsletters, search engines, messengers, the Hub.
  const OTHERS = new RegExp(
    `^(_.*|(utm|hsa|mtm|pk|piwik|matomo|oly|vero|fb|gad|mc|ga|wt|itm|stm|spm|share|ref|trk|rdt|li|at|ns|cm|icid)[_.].*|${[
      "\\w*cl(k|ick)?id|[gw]braid|gad|igshi?d?|srsltid|epik|scid|ocid|cvid|ncid|cmpid|s?cid|si|s_kwcid|mkt_tok|trk|ref",
      "referrer|source|src|via|from|share|spm|scm|vd_source|isappinstalled|campaign|medium|embed|logs|duplicate|usp|hl|v",
    ].join("|")})$`,
    "i",
  );

  // Whether a parameter of the address is no setting of a tab.
  const isOther = (name) =>
    ddpm.isGradioParameter(name) || ["lang", "model", "tab", "tour"].includes(name) || OTHERS.test(name);

  // Names the settings of a link that has no tab for them.
  function refuseAll(settings) {
    for (const [name, value] of settings) {
      refuse(name, value, [OF_TABS.includes(name) ? "link.no_tab" : "link.unknown", {}]);
    }
  }

  function openAddress() {
    const query = new URLSearchParams(location.search);
    const lang = query.get("lang");
    if (lang !== null && !ddpm.isLanguage(lang)) {
      refuse("lang", lang, ["refused.choice", { choices: page.languages.join(", ") }]);
    }
    const model = query.get("model");
    const models = page.models.map(({ name }) => name);
    if (model !== null && !models.includes(model)) {
      refuse("model", model, ["refused.choice", { choices: models.join(", ") }]);
    }
    if (recalled.tab) return openTab(recalled.tab); // with the settings of its own, see `bringBack`
    const settings = Object.fromEntries([...query].filter(([name]) => !isOther(name)));
    if (query.has("tab")) return openTab(query.get("tab"), settings, true);
    const entries = Object.entries(settings);
    for (const [name, value] of entries) if (common.has(name)) set(name, value, common.get(name));
    // Without a tab, an unknown parameter may be meant for others, so it is no error.
    refuseAll(entries.filter(([name]) => OF_TABS.includes(name)));
  }

  // ---------------------------------------------------------------- a reload

  const valuesOf = (settings) =>
    Object.fromEntries(
      [...settings]
        .map(([name, setting]) => [name, setting.read() ?? null])
        .filter(([, value]) => value !== null)
        .map(([name, value]) => [name, String(value)]),
    );

  // Sets what the page kept before; what does not fit any more is left out without a word.
  function setPast(settings, values) {
    for (const [name, value] of Object.entries(values)) settings.get(name)?.apply(value);
  }

  function bringBack(tab) {
    const { settings, ready } = alive.get(tab);
    setPast(settings, past[tab]);
    ready(tab === recalled.tab ? { ...past[tab], ...recalled.common } : past[tab]);
  }

  const { recalled, keep } = ddpm.memory;
  const past = recalled.settings ?? {};
  setPast(common, recalled.common ?? {});
  keep("tab", () => ddpm.inFront());
  keep("common", () => valuesOf(common));
  keep("settings", () => ({
    ...past,
    ...Object.fromEntries([...alive].map(([tab, { settings }]) => [tab, valuesOf(settings)])),
  }));

  // ---------------------------------------------------------------- copying

  const inLink = (tab) => [...(alive.get(tab)?.settings ?? []), ...common];

  // The address of the page: of the Space that shows it in a frame, where that is known, since it passes settings on.
  function ownAddress() {
    if (ddpm.framed && page.space) return new URL(`https://huggingface.co/spaces/${page.space}`);
    const url = new URL(location.pathname, location.href);
    ddpm.keepTheme(url);
    return url;
  }

  // The address of what is on screen, at the page `url`.
  function linkOf(url) {
    const tab = ddpm.inFront();
    if (page.models.length > 1) url.searchParams.set("model", page.model);
    url.searchParams.set("lang", ddpm.language());
    url.searchParams.set("tab", tab);
    for (const [name, setting] of inLink(tab)) {
      const value = setting.read();
      if (value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    return url.href;
  }

  // The address of another model's page, with what is common to both. Within a frame it stays there, and what a Space
  // needs to show itself in a frame stays in the address.
  function addressOf({ name, T }) {
    const url = new URL(location.pathname, location.href);
    for (const [key, value] of new URLSearchParams(location.search)) {
      if (key.startsWith("_")) url.searchParams.set(key, value);
    }
    const t = shared.get("t");
    const settings = { model: name, lang: ddpm.language(), tab: ddpm.inFront(), ...(t <= T && { t }) };
    for (const [key, value] of Object.entries(settings)) url.searchParams.set(key, value);
    return url.href;
  }

  // Copies the address, and puts it into the browser's address bar.
  //   field: an input that holds it where there is no clipboard; it stays on screen if the visitor must copy by hand.
  //   frame: copy a frame for other people's pages instead, see embed.js.
  async function copyLink(field, frame = false) {
    const link = frame ? ddpm.embed.html() : linkOf(ownAddress());
    if (!ddpm.framed && !frame) history.replaceState(null, "", link); // nobody sees the address of a frame
    const drawn = inLink(ddpm.inFront()).some(([, setting]) => setting.own?.());
    const before = document.activeElement;
    field.hidden = true;
    const copied = await ddpm.copy(link, () => {
      field.hidden = false;
      field.value = link;
      field.select(); // this also moves the focus there
    });
    if (!copied) return tell("link.by_hand");
    if (!field.hidden) {
      field.hidden = true;
      before?.focus();
    }
    tell(drawn ? "link.copied.drawn" : frame ? "embed.copied" : "link.copied");
  }

  Object.assign(ddpm, { linkable, openTab, openAddress, addressOf, linkOf, copyLink, refuseSetting: refuse });
})();
