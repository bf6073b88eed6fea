// What a reload brings back: tab, settings, language and drawing, in the browser's storage of this one browser tab, for
// each model by itself. When the visitor goes to another model, what fits it goes along (`leave`).
// Needs `ddpm.page`. Gives memory: `recalled`, what the page kept before it was reloaded or left ({} if there is
// nothing); keep(name, read), which from now on keeps what read() returns under this name (undefined is left out); and
// leave(name), to call before the page of another model is opened.
(() => {
  const CARRY = "ddpm carry"; // what goes along
  const REST_MS = 300; // after the visitor's last action
  const ACTIONS = ["click", "input", "change", "keyup", "pointerup"];
  const EVERYWHERE = ["lang", "dark", "tab"]; // means the same for every model
  const PICTURES = ["picture", "second"]; // fit a model of the same size
  const { model, height, width, channels, beta } = ddpm.page;
  const KEY = `ddpm ${model}`;
  const size = [height, width, channels].join();
  const FORMAT = 1; // of what is kept; another version of this page may have used the same address
  const about = [FORMAT, model, size, beta.length].join(); // nor do the settings of another model fit
  const opened = location.search; // later the page itself may write into the address
  const readers = new Map();

  // Null where the browser lets the page store nothing, as in a frame while third-party cookies are blocked.
  function storage() {
    try {
      return window.sessionStorage;
    } catch {
      return null;
    }
  }

  // Whether this is the page that was left, and no other link. In a frame, the reload of the page around it looks like
  // a first visit of the same address.
  function isReload(kept) {
    if (window.parent !== window && kept.opened === opened) return true;
    return ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type);
  }

  // What the page of another model has left for this one, once.
  function takeCarried() {
    const carried = JSON.parse(storage()?.getItem(CARRY) ?? "null");
    storage()?.removeItem(CARRY);
    return carried?.to === model ? carried : null;
  }

  // What was kept for this model, with what goes along from another one in its place.
  function withCarried(own, { values, size: theirs }) {
    const fits = theirs === size;
    const { t, noise, example } = values.common ?? {};
    const common = { ...own.common, noise, ...(Number(t) <= beta.length && { t }), ...(fits && { example }) };
    const names = [...EVERYWHERE, ...(fits ? PICTURES : [])];
    const along = Object.fromEntries(names.map((name) => [name, values[name]]));
    return JSON.parse(JSON.stringify({ ...own, ...along, common })); // what is undefined is left out
  }

  function recall() {
    try {
      const carried = takeCarried();
      const kept = JSON.parse(storage()?.getItem(KEY) ?? "null");
      const own = (kept?.about === about && (carried || isReload(kept)) && kept.values) || {};
      return carried ? withCarried(own, carried) : own;
    } catch {
      return {};
    }
  }

  const read = () => Object.fromEntries([...readers].map(([name, value]) => [name, value()]));

  function store(key, kept) {
    try {
      storage()?.setItem(key, JSON.stringify(kept));
    } catch {
      // There is no room for it: a reload then begins anew.
    }
  }

  const save = () => store(KEY, { about, opened, values: read() });
  const leave = (to) => store(CARRY, { to, size, values: read() });

  let resting = 0;
  function saveSoon() {
    clearTimeout(resting);
    resting = setTimeout(save, REST_MS);
  }
  for (const action of ACTIONS) document.addEventListener(action, saveSoon, { capture: true, passive: true });
  window.addEventListener("pagehide", save);
  document.addEventListener("visibilitychange", () => document.hidden && save());

  ddpm.memory = { recalled: recall(), keep: (name, value) => readers.set(name, value), leave };
})();
