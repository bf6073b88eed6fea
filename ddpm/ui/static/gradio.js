// Everything in the browser that relies on Gradio's internals: the requests of its client, its copy of KaTeX, its
// theme, its tabs, its parameters in the address, its side of a frame. A newer Gradio may change any of them;
// tests/browser/test_gradio.py finds out.
// Needs `ddpm.page` (page.py).
// Gives onLoss, isLost, isThere; katex; dark, onTheme, toggleTheme; tabs, inFront, bringToFront, untilTabs; container,
// isGradioParameter, keepTheme; frame.
(() => {
  // ---------------------------------------------------------------- the requests of Gradio's client

  // When the queue is full or the connection is lost, the client shows an English message in a corner, but does not
  // tell the tab that waits for an answer. Therefore this code watches the client's requests.
  const JOIN = "/queue/join"; // sends an event
  const LISTEN = "/queue/data"; // the stream of all answers
  const RETRY_MS = 3000;
  const ANSWER_MS = 5000; // a server that says nothing for so long is gone
  const lossListeners = [];
  let lost = false; // for good: the client sends nothing more, and reloads the page once the server is back

  // Returns a number, which the caller's events carry as `sender`. Calls listener(why, run) when the server will not
  // answer the event with this sender and this `run`: `why` is "busy" (the queue is full) or "failed". If the
  // connection is lost, it calls listener("lost"), for all events.
  const onLoss = (listener) => lossListeners.push(listener) - 1;

  function loseAll(error) {
    if (error.name === "AbortError" || lost) return; // the page itself ended the request
    lost = true;
    for (const listener of lossListeners) listener("lost");
  }

  // For tabs that call the server without the client, which would notice. A promise of whether the server is still
  // there. If not, the connection is lost, and the page is loaded anew once the server is back.
  async function isThere() {
    if (await answers()) return true;
    if (!lost) comeBack();
    loseAll(new TypeError("the server does not answer"));
    return false;
  }

  async function comeBack() {
    do await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    while (!(await answers()));
    location.reload();
  }

  // A proxy whose server is gone answers for it, with 502 and the like.
  const answers = () =>
    fetchAsItIs(location.href, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) }).then(
      (response) => response.status < 500,
      () => false,
    );

  // The same response, whose stream of answers is watched. It may end only after it has announced its end.
  function watched(response) {
    const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
    let tail = "";
    const stream = new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (done && !tail.includes("close_stream")) throw new TypeError("the stream of answers broke off");
          if (done) return controller.close();
          tail = (tail + decoder.decode(value, { stream: true })).slice(-100);
          controller.enqueue(value);
        } catch (error) {
          loseAll(error);
          controller.error(error);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(stream, response);
  }

  // Tells the sender of an event that it got no place in the queue.
  function tellSender(status, options) {
    try {
      const sent = JSON.parse(options.body).event_data;
      lossListeners[sent.sender]?.(status === 503 ? "busy" : "failed", sent.run);
    } catch {
      // The event was not one of this page.
    }
  }

  const fetchAsItIs = window.fetch;
  window.fetch = async (resource, options) => {
    const address = String(resource.url ?? resource);
    const [joins, listens] = [JOIN, LISTEN].map((path) => address.includes(path));
    try {
      const response = await fetchAsItIs(resource, options);
      if (listens && response.ok) return watched(response);
      if (joins && !response.ok) tellSender(response.status, options);
      return response;
    } catch (error) {
      if (joins || listens) loseAll(error);
      throw error;
    }
  };

  // ---------------------------------------------------------------- KaTeX

  // A promise of the KaTeX that Gradio's Markdown component uses. Without it equations are shown as TeX.
  const plain = { render: (tex, element) => element.replaceChildren(tex) };
  async function loadKatex(paths) {
    if (!paths) return plain;
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet" });
    style.href = new URL(paths.css, document.baseURI);
    document.head.append(style);
    return import(new URL(paths.js, document.baseURI)).then(
      (module) => module.default,
      () => plain,
    );
  }
  const katex = loadKatex(ddpm.page.katex);

  // ---------------------------------------------------------------- the theme

  const DARK = "dark"; // a class of the body
  const dark = () => document.body.classList.contains(DARK);
  const themeListeners = new Set();

  function watchTheme() {
    let before = dark();
    new MutationObserver(() => {
      if (dark() === before) return;
      before = dark();
      for (const listener of themeListeners) listener();
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }
  if (document.body) watchTheme();
  else document.addEventListener("DOMContentLoaded", watchTheme);

  // ---------------------------------------------------------------- the tabs

  const tabButtons = () => [...document.querySelectorAll("[role=tab][data-tab-id]")];
  const tabs = () => tabButtons().map((button) => button.dataset.tabId);
  const inFront = () => tabButtons().find((button) => button.ariaSelected === "true")?.dataset.tabId;

  async function untilTabs() {
    while (!tabs().length) await new Promise((resolve) => setTimeout(resolve, 30));
  }

  function bringToFront(tab) {
    if (inFront() === tab) return;
    tabButtons()
      .find((button) => button.dataset.tabId === tab)
      .click();
  }

  // Arrow keys move along the tabs, as on other pages; Gradio itself handles only Tab and Enter.
  document.addEventListener("keydown", (event) => {
    const visible = tabButtons().filter((button) => button.offsetParent);
    const at = visible.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: visible.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = visible[(to + visible.length) % visible.length];
    next.focus();
    next.click();
  });

  // ---------------------------------------------------------------- the address

  const THEME = "__theme";
  const PARAMETERS = ["view", "deep_link", THEME];

  // Copies the theme that the page was opened with into another address.
  function keepTheme(url) {
    const theme = new URLSearchParams(location.search).get(THEME);
    if (theme) url.searchParams.set(THEME, theme);
  }

  // ---------------------------------------------------------------- the frame of a Space

  // A promise of what iframe-resizer offers to a page in a frame, see getPageInfo and scrollTo in its documentation.
  // Gradio loads the page's side of it; the promise stays open where the page around the frame has no other side.
  const frame = new Promise((found) => {
    const look = () => window.parentIFrame && found(window.parentIFrame);
    window.addEventListener("gradio:iframe-resizer-ready", look);
    look();
  });

  Object.assign(ddpm, {
    onLoss,
    isLost: () => lost,
    isThere,
    katex,
    dark,
    onTheme: (listener) => themeListeners.add(listener),
    toggleTheme: () => document.body.classList.toggle(DARK),
    tabs,
    inFront,
    untilTabs,
    bringToFront,
    // Gradio's font and the styles of KaTeX apply only in it.
    container: () => document.querySelector(".gradio-container"),
    isGradioParameter: (name) => PARAMETERS.includes(name),
    keepTheme,
    frame,
  });
})();
