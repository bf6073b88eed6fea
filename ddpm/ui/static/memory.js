// What a reload brings back: tab, settings, language and drawing, in the browser's storage of this one browser tab.
// Needs `ddpm.page`. Gives memory: `recalled`, what the page kept before it was reloaded ({} if there is nothing), and
// keep(name, read), which from now on keeps what read() returns under this name; undefined is left out.
(() => {
  const KEY = "ddpm";
  const REST_MS = 300; // after the visitor's last action
  const ACTIONS = ["click", "input", "change", "keyup", "pointerup"];
  const { model, resolution, channels, beta } = ddpm.page;
  const FORMAT = 1; // of what is kept; another version of this page may have used the same address
  const about = [FORMAT, model, resolution, channels, beta.length].join(); // nor do the settings of another model fit
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

  function recall() {
    try {
      const kept = JSON.parse(storage()?.getItem(KEY) ?? "null");
      return (kept?.about === about && isReload(kept) && kept.values) || {};
    } catch {
      return {};
    }
  }

  function save() {
    const values = Object.fromEntries([...readers].map(([name, read]) => [name, read()]));
    try {
      storage()?.setItem(KEY, JSON.stringify({ about, opened, values }));
    } catch {
      // There is no room for it: a reload then begins anew.
    }
  }

  let resting = 0;
  function saveSoon() {
    clearTimeout(resting);
    resting = setTimeout(save, REST_MS);
  }
  for (const action of ACTIONS) document.addEventListener(action, saveSoon, { capture: true, passive: true });
  window.addEventListener("pagehide", save);
  document.addEventListener("visibilitychange", () => document.hidden && save());

  ddpm.memory = { recalled: recall(), keep: (name, read) => readers.set(name, read) };
})();
