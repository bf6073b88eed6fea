// Links that open a tab with its settings: ?tab=reverse&sampler=ddim&steps=20&seed=7&t=312. Loaded once in the page's
// head, after picker.js. Values are checked here, in the browser; what cannot be taken is named in the header and left.
//
// A tab needs one call in its script, once its controls are there; opening and copying links follow from it:
//
//   ddpm.linkable("reverse", { sampler: form.elements.sampler, steps: form.elements.num_inference_steps }, ready);
//
// It says which name in the address stands for which setting; `ready(named)`, if given, is called once all settings of
// an address are made, with what it named, to draw what they ask for. `tab`, `lang`, `tour`, `t`, `example` and `noise`
// are taken. A setting is
//   - a select, a number or range input: what it accepts is what it says itself (options; min, max, step). It gets the
//     events "input" and "change", as from a visitor. While it is hidden, it is in no link;
//   - a .switch of parts.switch: one of its buttons is pressed;
//   - anything else as { read(), apply(string), own() }: `read` gives its value, null for none; `apply` takes it, or
//     returns [key, fields] of a refusal, e.g. ["refused.whole", { low: 0, high: 9 }], with {name} and {value} filled in
//     here; `own`, if there is one, says whether it is a picture of the visitor's, which is in no link.
(() => {
  const { shared, say } = ddpm;
  const MAX_SEED = 2 ** 31 - 1; // as in checks.py

  // ---------------------------------------------------------------- settings

  function choice(choices, read, write) {
    return {
      read: () => (choices.includes(read()) ? read() : null),
      apply: (value) => (choices.includes(value) ? write(value) : ["refused.choice", { choices: choices.join(", ") }]),
    };
  }

  function number(low, high, whole, read, write) {
    const fits = (value) => /^-?\d+(\.\d+)?$/.test(value) && +value >= low && +value <= high && (!whole || Number.isInteger(+value));
    return {
      read: () => (fits(String(read())) ? String(+read()) : null),
      apply: (value) => (fits(value) ? write(+value) : [whole ? "refused.whole" : "refused.real", { low, high }]),
    };
  }

  function settingOf(control) {
    if (control.apply) return control;
    if (control.matches(".switch")) {
      const buttons = [...control.querySelectorAll("button")];
      const pressed = () => buttons.find((button) => button.ariaPressed === "true")?.dataset.value;
      return choice(buttons.map((button) => button.dataset.value), pressed, (value) => buttons.find((b) => b.dataset.value === value).click());
    }
    const read = () => (control.closest("[hidden]") ? null : control.value);
    const write = (value) => {
      control.value = value;
      for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
    };
    if (control.matches("select")) return choice([...control.options].map((option) => option.value), read, write);
    const limit = (name, otherwise) => (control[name] === "" ? otherwise : +control[name]);
    return number(limit("min", -Infinity), limit("max", Infinity), Number.isInteger(+(control.step || 1)), read, write);
  }

  const bySettings = (controls) => new Map(Object.entries(controls).map(([name, control]) => [name, settingOf(control)]));

  // What all tabs share. The picture is in a link as long as it is one of the examples.
  const examples = () => (shared.get("examples")?.length ?? 0) / ddpm.count;
  const common = bySettings({
    // A tab that shows finished pictures ends there by itself: their link has no t.
    t: number(1, ddpm.T, true, () => (document.querySelector(`#${inFront()} .t-bar input`)?.value === "0" ? null : shared.get("t")), (t) => shared.set("t", t)),
    example: {
      read: () => ddpm.example.get(),
      own: () => ddpm.example.own() && Boolean(document.querySelector(`#${inFront()} .pad`)),
      apply(value) {
        if (!examples()) return void (expected = value); // they are still to come
        return number(0, examples() - 1, true, ddpm.example.get, ddpm.example.set).apply(value);
      },
    },
    noise: number(0, MAX_SEED, true, () => shared.get("noise"), (seed) => shared.set("noise", seed)),
  });

  // ---------------------------------------------------------------- the line in the header

  const refusals = []; // functions, since they are said in the language of the moment
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

  let expected = null; // the example that a link has named before there were any
  shared.on("examples", () => {
    if (expected === null || !examples()) return;
    const value = expected;
    expected = null;
    set("example", value, common.get("example"));
  });

  // ---------------------------------------------------------------- tabs

  const alive = new Map(); // tab -> {settings by name, ready}
  const waiting = new Map(); // tab -> functions: who waits for it

  function linkable(tab, controls, ready = () => {}) {
    alive.set(tab, { settings: bySettings(controls), ready });
    const known = waiting.get(tab) ?? [];
    waiting.delete(tab);
    for (const go of known) go();
  }

  const untilAlive = (tab) => new Promise((go) => (alive.has(tab) ? go() : waiting.set(tab, [...(waiting.get(tab) ?? []), go])));

  const buttons = () => [...document.querySelectorAll("[role=tab][data-tab-id]")];

  // Arrow keys go along the tabs, as everywhere; Gradio's own heed Tab and Enter only.
  document.addEventListener("keydown", (event) => {
    const tabs = buttons().filter((button) => button.offsetParent);
    const at = tabs.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  const tabs = () => buttons().map((button) => button.dataset.tabId);
  const inFront = () => buttons().find((button) => button.ariaSelected === "true")?.dataset.tabId;

  async function untilTabs() {
    while (!tabs().length) await new Promise((resolve) => setTimeout(resolve, 30));
  }

  // Brings a tab to the front and sets it: `settings` by their names in the address, all strings. Done when it is there.
  // `draws`: it then draws what they ask for.
  async function openTab(tab, settings = {}, draws = false) {
    await untilTabs();
    const button = buttons().find((b) => b.dataset.tabId === tab);
    if (!button) return refuse("tab", tab, ["refused.choice", { choices: tabs().join(", ") }]);
    const entries = Object.entries(settings);
    for (const [name, value] of entries) if (common.has(name)) set(name, value, common.get(name));
    if (inFront() !== tab) button.click();
    const others = entries.filter(([name]) => !common.has(name));
    if (!others.length && !draws) return;
    await untilAlive(tab);
    const there = alive.get(tab);
    for (const [name, value] of others) set(name, value, there.settings.get(name));
    if (draws) there.ready(settings);
  }

  // ---------------------------------------------------------------- the address

  const NOT_OURS = /^(lang|tab|tour|view|deep_link|utm_.*|_.*)$/; // `view`, `deep_link` and `__theme` are Gradio's

  function openAddress() {
    const query = new URLSearchParams(location.search);
    const settings = Object.fromEntries([...query].filter(([name]) => !NOT_OURS.test(name)));
    if (query.has("tab")) return openTab(query.get("tab"), settings, true);
    // An address of ours without a tab: what is not known in it may be anyone's.
    const known = Object.entries(settings).filter(([name]) => common.has(name));
    for (const [name, value] of known) set(name, value, common.get(name));
  }

  const inLink = (tab) => [...(alive.get(tab)?.settings ?? []), ...common];

  // The address of what is on screen.
  function address() {
    const url = new URL(location.pathname, location.href);
    const theme = new URLSearchParams(location.search).get("__theme");
    if (theme) url.searchParams.set("__theme", theme);
    url.searchParams.set("lang", ddpm.language());
    const tab = inFront();
    url.searchParams.set("tab", tab);
    for (const [name, setting] of inLink(tab)) {
      const value = setting.read();
      if (value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    return url.href;
  }

  // Copies the address, and puts it where the browser shows it. `field`: an input that is shown while it must be copied by hand.
  async function copyLink(field) {
    const link = address();
    history.replaceState(null, "", link);
    const copied = inLink(inFront()).some(([, setting]) => setting.own?.()) ? "link.copied.drawn" : "link.copied";
    field.hidden = true;
    try {
      await navigator.clipboard.writeText(link);
      return tell(copied);
    } catch {
      const before = document.activeElement;
      field.hidden = false;
      field.value = link;
      field.select(); // which also moves the focus there
      if (!document.execCommand("copy")) return tell("link.by_hand");
      field.hidden = true;
      before?.focus();
      tell(copied);
    }
  }

  Object.assign(ddpm, { linkable, openTab, tabs, untilTabs, openAddress, copyLink, refuseSetting: refuse });
})();
