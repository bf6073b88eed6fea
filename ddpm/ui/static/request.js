// The life of a request to the server: sent, queued, answered in parts, done; or refused, lost, stopped, too late. The
// tabs only say what they send and what they do with what comes.
// Needs gradio.js, shared.js, pictures.js, controls.js, status.js.
// Gives reading (a tab that asks about the picture), sampling (a tab with a form that draws pictures), polling (a tab that
// looks again and again), untilDrawn (what the server draws by itself).
(() => {
  const { shared } = ddpm;
  const QUEUE_MS = 30 * 60_000; // many visitors may wait in front, of whom nothing is heard
  const SILENCE_MS = 200_000; // once it is its turn: the server is never silent for so long unless it is lost
  const WAITING_MS = 1500; // without an answer until the tab says that it waits
  const LATE_MS = 5000; // a request under way may be lost; the next waits no longer for its answer

  // The server knows a page by this name. Nobody can guess it, so nobody can end the requests of another.
  const visitor = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");

  // ---------------------------------------------------------------- one request at a time counts

  // Returns send(message), for requests that take one place in the queue together: while one is under way, the latest
  // of the others waits. answered(run): the request of this number is answered or lost; wanted(message): whether a
  // message that has waited is still to be sent.
  function oneAtATime(trigger, wanted) {
    let underWay = null; // the number of what was sent and is not answered
    let next = null; // what to send then
    let late = 0;

    function send(message) {
      if (underWay !== null) {
        next = message;
        return;
      }
      underWay = message.run;
      late = setTimeout(() => answered(message.run), LATE_MS);
      trigger(message);
    }

    function answered(run) {
      if (run !== underWay) return;
      const message = next;
      underWay = next = null;
      clearTimeout(late);
      if (message && wanted(message)) send(message);
    }

    return { send, answered };
  }

  // The requests of a tab, of which only the latest counts.
  //   send(message): triggers the tab's event. expect(message): the server function that ends the earlier requests
  //   before their next call of the network, wherever they are (Gradio's way to cancel needs an id that a request gets
  //   only after a while). waiting(): nothing has been heard yet. lost(why): no answer will come: "busy", "failed" or
  //   "lost". single: a request takes no second place in the queue, see oneAtATime.
  function requests({ send, expect, waiting = () => {}, lost, single = false }) {
    let number = 0; // of the latest request, sent as `run`; it counts up when a request ends, too
    let active = false;
    const timers = {};
    const queue = oneAtATime(send, (message) => active && message.run === number);
    const after = (name, ms, action) => {
      clearTimeout(timers[name]);
      timers[name] = setTimeout(action, ms);
    };
    const tellServer = () => expect({ visitor, run: number }).catch(() => {}); // it saves work, no more
    const sender = ddpm.onLoss((why, run) => {
      if (run !== undefined) queue.answered(run);
      if (!active || (run ?? number) !== number) return;
      finish();
      lost(why);
    });

    // A new request, sent after `pause` milliseconds unless another takes its place.
    function start(message, pause = 0) {
      const earlier = active;
      finish();
      active = true;
      if (earlier) tellServer();
      after("silence", QUEUE_MS, () => giveUp("busy"));
      after("waiting", WAITING_MS, waiting);
      const sent = { run: number, sender, visitor, ...message };
      const go = () => (single ? queue.send(sent) : send(sent));
      if (pause) after("pause", pause, go);
      else go();
    }

    // Whether a message belongs to the request that counts.
    function hear(message) {
      if (message) queue.answered(message.run);
      if (!active || message?.run !== number) return false;
      clearTimeout(timers.waiting);
      after("silence", SILENCE_MS, () => giveUp("failed"));
      return true;
    }

    // The end of a request: what is still on its way belongs to nobody.
    function finish() {
      number++;
      active = false;
      for (const timer of Object.values(timers)) clearTimeout(timer);
    }

    // The same before it was done.
    function stop() {
      finish();
      tellServer();
    }

    function giveUp(why) {
      stop();
      lost(why);
    }

    return { start, hear, finish, stop, active: () => active, number: () => number };
  }

  // ---------------------------------------------------------------- a tab that asks about the picture

  const PAUSE_MS = 120; // strokes that follow each other are one picture
  const RETRY_MS = 4000; // until a server that was busy is asked again

  // The tab asks at every new picture, while it is in front.
  //   send, expect, waiting: see `requests`; fetch(key): the server function that hands out what "done" names;
  //   start(), part(message), done(what was fetched): what the tab shows; ended(): no answer will come.
  function reading(element, { send, expect, fetch, start, part = () => {}, waiting, done, ended = () => {} }) {
    const status = element.querySelector(".answer");
    const { tell, note, refuse } = ddpm.line(status);
    const here = ddpm.front(element, (shown) => shown && watching && ask());
    let asked = null; // the picture and the seed of its noise that the answer is about
    let retry = 0;
    let watching = false;
    const life = requests({ send, expect, waiting, lost });

    function ask({ again = false } = {}) {
      const next = { bytes: shared.get("settled"), seed: shared.get("noise") };
      if (!next.bytes || (!again && asked?.bytes === next.bytes && asked.seed === next.seed)) return;
      if (!here.shown) return forget(); // it asks when it comes to the front
      if (ddpm.isLost()) return lost("lost");
      clearTimeout(retry);
      asked = next;
      status.dataset.state = "asked";
      start();
      life.start({ x0: ddpm.base64Of(next.bytes), noise_seed: next.seed }, PAUSE_MS);
    }

    async function take(message) {
      if (!life.hear(message)) return;
      if (message.kind === "part") return part(message);
      if (message.kind === "refused") {
        conclude();
        return refuse(message);
      }
      const found = message.kind === "done" && (await fetch(message.key).catch(() => null));
      if (message.run !== life.number()) return;
      if (!found) return lost("failed");
      life.finish();
      done(found);
      status.dataset.state = "done";
    }

    // The end without an answer. The picture is asked about again at the next occasion.
    function conclude() {
      asked = null;
      if (status.dataset.state !== "asked") return;
      status.dataset.state = "";
      life.finish();
      ended();
    }

    function lost(why) {
      conclude();
      tell(`answer.${why}`, undefined, why !== "busy");
      if (why === "busy") retry = setTimeout(ask, RETRY_MS * (0.75 + Math.random() / 2));
    }

    // A visitor wants no answer.
    function stop() {
      if (status.dataset.state !== "asked") return;
      status.dataset.state = "";
      life.stop();
      ended();
    }

    function forget() {
      stop();
      asked = null;
    }

    // From now on. A tab that is not in front asks when it comes there.
    function watch() {
      watching = true;
      shared.on("settled", () => ask());
      shared.on("noise", () => ask());
    }

    return { tell, note, take, ask, stop, watch };
  }

  // ---------------------------------------------------------------- a tab with a form that draws pictures

  // Brings .go, .stop, .new-seed, .status and .progress to life.
  //   send, expect: see `requests`; busy(on): what else changes while a request is on; take(message): what it brings;
  //   stopped(): it ended before it was done, with something to show.
  function sampling(element, { send, expect, busy = () => {}, take, stopped }) {
    const $ = (selector) => element.querySelector(selector);
    const [go, stop, form] = [".go", ".stop", ".controls"].map($);
    const line = ddpm.line($(".status:not(.picker-status)"));
    const life = requests({ send, expect, waiting: () => line.tell("reverse.waiting"), lost, single: true });
    let shows = false; // the request has brought something to show

    const progress = (share) => {
      $(".progress i").style.width = `${100 * share}%`;
    };

    function setRunning(on) {
      const swap = () => {
        go.hidden = on;
        stop.hidden = !on;
      };
      ddpm.keepFocus([go, stop], swap, () => (on ? stop : go));
      for (const control of element.querySelectorAll(".player :is(.play, .t-bar input)")) control.disabled = on;
      $(".tab").classList.toggle("running", on);
      if (!on) progress(0);
      busy(on);
    }

    function start(message) {
      if (ddpm.isLost()) return line.tell("answer.lost"); // no request begins, so the tab stays as it is
      shows = false;
      setRunning(true);
      line.tell("reverse.starting");
      life.start(message);
    }

    // The end of a request, with the key of what there is to say.
    function end(key = null, fields) {
      life.finish();
      setRunning(false);
      line.tell(key, fields);
    }

    function endEarly(key) {
      end();
      if (shows) stopped();
      if (key) line.tell(key);
    }

    function lost(why) {
      endEarly(why === "lost" ? "answer.lost" : `reverse.${why}`);
    }

    function hear(message) {
      if (!life.hear(message)) return;
      if (message.kind === "started") return line.note("reverse.starting");
      if (message.kind === "failed") return endEarly("reverse.failed");
      if (message.kind === "refused") {
        end();
        return line.refuse(message);
      }
      shows ||= message.kind === "frame";
      take(message);
    }

    stop.addEventListener("click", () => {
      life.stop();
      endEarly();
    });
    // A refusal is about what was in the fields: it goes once they are changed.
    form.addEventListener("input", () => line.refused() && line.tell(null));
    $(".new-seed")?.addEventListener("click", () => {
      form.elements.seed.value = Math.floor(Math.random() * 100000);
      if (!life.active()) form.requestSubmit();
    });

    return { tell: line.tell, note: line.note, start, end, hear, progress, active: life.active, number: life.number };
  }

  // ---------------------------------------------------------------- a tab that looks again and again

  const POLL_MS = 300;
  const MISSES = 40; // looks in a row that may fail before the server counts as lost

  // look(): the server function that says what is new; take(news, current): shows it, where current() says whether the
  // polling was not ended or begun anew meanwhile; lost(): the server does not answer any more.
  function polling({ look, take, lost }) {
    let number = 0; // of the latest start; answers to earlier ones belong to nobody
    let timer = 0;

    function start() {
      stop();
      poll(number, 0);
    }

    async function poll(token, misses) {
      const current = () => token === number;
      const news = await look().catch(() => null);
      if (!current()) return;
      if (!news && misses >= MISSES) {
        stop();
        return lost();
      }
      if (news) await take(news, current);
      if (current()) timer = setTimeout(poll, POLL_MS, token, news ? 0 : misses + 1);
    }

    function stop() {
      number++;
      clearTimeout(timer);
    }

    return { start, stop };
  }

  // ---------------------------------------------------------------- what the server draws by itself

  // What ask() finds, once it finds something; null once nobody wants it. A slow model takes minutes, so the page asks for
  // as long, ever less often.
  async function untilDrawn(ask, wanted = () => true) {
    for (let pause = 700; ; pause = Math.min(1.02 * pause, 10_000)) {
      const found = await ask().catch(() => null);
      if (!wanted()) return null;
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  Object.assign(ddpm, { visitor, reading, sampling, polling, untilDrawn });
})();
