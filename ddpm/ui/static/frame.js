// The part of the page that the visitor sees. On a Space the page lives in a frame of another origin that is as tall as
// its content, and the window shows only a part of it. There `fixed`, `sticky`, `dvh`, `innerHeight` and `scrollBy`
// speak of the whole frame. What must stay in view asks here, and has these variables for its style sheet:
//   --below: how much of the viewport lies below what is seen (0px outside of a frame);
//   --view: the height of what is seen (100dvh outside of a frame).
// Needs gradio.js, shared.js. Gives framed; keepInView; bringIntoView.
(() => {
  const framed = window.parent !== window;
  const LEAST = 320; // pixels in which something is shown when less than that of the frame is in view
  const LOOK_MS = 100;
  const SETTLE_MS = 15_000; // after which even a busy host has made the frame as tall as a tab that has come to the front
  const ACTIONS = ["wheel", "touchmove", "pointerdown", "keydown"]; // of a visitor who goes elsewhere
  const followers = new Set();
  let seen = { top: 0, bottom: Infinity }; // in coordinates of the viewport
  let host = null; // {frame: what iframe-resizer offers, scrollLeft, scrollTop, height: of its window}, once it answers

  // {top, bottom, height} of what is seen, in coordinates of the viewport.
  function view() {
    const bottom = Math.min(window.innerHeight, Math.max(seen.bottom, LEAST));
    const top = Math.max(0, Math.min(seen.top, bottom - LEAST));
    return { top, bottom, height: bottom - top };
  }

  function place() {
    const { bottom, height } = view();
    for (const { style } of followers) {
      style.setProperty("--below", `${window.innerHeight - bottom}px`);
      style.setProperty("--view", `${height}px`);
    }
  }

  function see(top, bottom) {
    seen = { top, bottom };
    place();
  }

  // An element whose style sheet uses the variables.
  function keepInView(element) {
    if (!framed) return;
    followers.add(element);
    place();
  }

  // ---------------------------------------------------------------- what is seen of the frame

  // The host says where its window is: now, and whenever it is scrolled or changes its size.
  function listenToHost(frame) {
    frame.getPageInfo(({ scrollLeft, scrollTop, offsetTop, clientHeight }) => {
      host = { frame, scrollLeft, scrollTop, height: clientHeight };
      see(scrollTop - offsetTop, scrollTop - offsetTop + clientHeight);
    });
  }

  // Without such a host the browser is asked again and again. An IntersectionObserver answers once at its beginning,
  // and knows what is seen across origins, too.
  function look() {
    const watcher = new IntersectionObserver((entries) => {
      watcher.disconnect();
      if (host) return;
      const { top, bottom } = entries.at(-1).intersectionRect;
      if (bottom > top) see(top, bottom);
      setTimeout(look, LOOK_MS);
    });
    watcher.observe(document.documentElement);
  }

  if (framed) {
    ddpm.frame.then(listenToHost);
    look();
    window.addEventListener("resize", place);
  }

  // ---------------------------------------------------------------- scrolling

  const MARGIN = 14; // pixels above an element that is taller than the room for it

  // Brings an element to the middle of the room that is left above the foot of the window, or its top into view if it
  // is taller.
  //   covered: so many pixels of the foot are taken.
  function bringIntoView(element, covered) {
    if (host) return scrollHost(element, covered);
    const tall = element.offsetHeight > view().height - covered - 2 * MARGIN;
    element.style.scrollMargin = `${tall ? MARGIN : 0}px 0 ${covered}px`;
    element.scrollIntoView({ block: tall ? "start" : "center", behavior: ddpm.calm() ? "instant" : "smooth" });
    element.style.scrollMargin = "";
  }

  // The host can scroll no further than to the end of the frame, and makes it as tall as a tab that has come to the
  // front only after a moment. Then it scrolls again, unless the visitor has done something since.
  let settling = new AbortController();
  function scrollHost(element, covered) {
    function scroll() {
      const box = element.getBoundingClientRect();
      const margin = Math.max(MARGIN, (host.height - covered - box.height) / 2);
      host.frame.scrollTo(host.scrollLeft, Math.max(0, host.scrollTop + box.top - seen.top - margin));
    }

    settling.abort();
    const mine = new AbortController();
    settling = mine;
    const end = () => mine.abort();
    const again = () => mine.signal.aborted || scroll();
    window.addEventListener("resize", () => setTimeout(again, LOOK_MS), { signal: mine.signal });
    for (const action of ACTIONS) {
      window.addEventListener(action, end, { capture: true, passive: true, signal: mine.signal });
    }
    setTimeout(end, SETTLE_MS);
    scroll();
  }

  Object.assign(ddpm, { framed, keepInView, bringIntoView });
})();
