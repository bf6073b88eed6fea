// Rows of pictures from one noise, under one slider of t (parts.rows_board): "Compare" and "What goes wrong".
// Loaded once in the page's head, after trajectory.js.
(() => {
  const { KINDS, picture, newCanvas, paint, unpack, nearestFrame } = ddpm.trajectory;
  const { count } = ddpm;
  const EMPTY = { n: 0, t: [], frames: [] };

  //   fetch(key): the server function that hands out a trajectory; send(message), expect: as in ddpm.runs;
  //   name(i): of row i, in words; changed(i): what row i shows is new; busy(on): a run is on;
  //   done(): a run came to its end, and all rows are there; end(): the t to go to then.
  function rows(element, { fetch, send, expect, name, changed = () => {}, busy = () => {}, done, end = () => 0 }) {
    const $ = (selector) => element.querySelector(selector);
    const list = $(".rows");
    const template = $("template").content.firstElementChild;
    const heads = () => [...list.children];
    let shown = []; // of each row: {n, t, frames, found: what came with them, once complete}
    let plane = 0; // index of KINDS
    let here = ddpm.T; // t of all rows; each shows its nearest frame
    let ts = []; // the t at which some row has a frame, descending
    let live = new Set(); // rows that the current run has sent frames of
    let waiting = []; // complete rows that are being fetched

    const bar = ddpm.tBar($(".t-bar"), (t) => {
      player.pause();
      goTo(t);
    });
    const player = ddpm.player(element, { frames: () => ts.length, at: () => nearestFrame(ts, here), goTo: (i) => goTo(ts[i]) });

    // ---- pictures

    function drawRow(i) {
      const row = heads()[i];
      const grid = row.querySelector(".grid");
      const { t, frames } = shown[i];
      const n = shown[i].n || shown[0].n || 6;
      if (grid.children.length !== n) {
        grid.style.setProperty("--columns", n);
        grid.style.setProperty("--narrow", n <= 6 ? n : Math.ceil(n / 2));
        grid.replaceChildren(...Array.from({ length: n }, newCanvas));
      }
      const frame = nearestFrame(t, here);
      if (frames.length) [...grid.children].forEach((canvas, k) => paint(canvas, plane, picture(shown[i], frame, plane, k)));
      const what = ddpm.say(`reverse.${KINDS[plane]}.label`);
      grid.setAttribute("aria-label", ddpm.say("rows.label", { i: i + 1, name: name(i), what, t: t[frame] ?? here }));
      row.setAttribute("aria-label", ddpm.say("rows.row", { i: i + 1, name: name(i) }));
      row.classList.toggle("empty", !frames.length);
      drawFigures(i, frame);
    }

    // Root mean square of the difference between the finished pictures of two rows, pixels in [-1, 1].
    function difference(a, b) {
      const [x, y] = [a, b].map((row) => row.frames.at(-1).subarray(0, row.n * count));
      let sum = 0;
      for (let k = 0; k < x.length; k++) sum += ((x[k] - y[k]) / 127.5) ** 2;
      return Math.sqrt(sum / x.length);
    }

    function drawFigures(i, frame) {
      const row = shown[i];
      const line = heads()[i].querySelector(".figures");
      const parts = [];
      if (row.found) {
        parts.push(ddpm.say("rows.calls", { calls: row.found.calls }), ddpm.say("rows.seconds", { seconds: row.found.seconds.toFixed(2) }));
        if (i > 0 && shown[0].found && shown[0].n === row.n) {
          row.away ??= difference(row, shown[0]);
          parts.push(ddpm.say("rows.away", { away: row.away.toFixed(3) }));
        }
        if (KINDS[plane] === "x0_hat") parts.push(ddpm.say("rows.reach", { reach: row.found.reach[frame].toFixed(2) }));
      } else if (row.step) parts.push(ddpm.say("reverse.running", row));
      line.replaceChildren(...parts.map((part) => Object.assign(document.createElement("span"), { textContent: part })));
    }

    const front = ddpm.front(element, (on) => on && draw());
    const draw = () => front.shown && shown.forEach((_, i) => drawRow(i));

    function showPlane(kind) {
      plane = KINDS.indexOf(kind);
      list.dataset.object = kind;
      for (const button of element.querySelectorAll(".view .switch button")) button.setAttribute("aria-pressed", button.dataset.value === kind);
      ddpm.setText($(".plane-name"), `reverse.${kind}`);
      $(".view .legend").hidden = kind !== "eps_hat";
      draw();
    }
    for (const button of element.querySelectorAll(".view .switch button")) button.addEventListener("click", () => showPlane(button.dataset.value));

    // ---- t

    function show(t) {
      here = t;
      bar.show(t);
      draw();
    }
    function goTo(t) {
      show(t);
      share(t);
    }

    // ---- rows

    function set(i, trajectory) {
      shown[i] = trajectory;
      shown.forEach((row) => delete row.away); // the first row may be another one now
      ts = [...new Set(shown.flatMap((row) => row.t))].sort((a, b) => b - a);
      bar.setMarks(ts.length ? ts : null);
      changed(i);
    }

    function add() {
      const row = template.cloneNode(true);
      ddpm.translate(row);
      list.append(row);
      shown.push(EMPTY);
      return row;
    }

    function remove(i) {
      heads()[i].remove();
      shown.splice(i, 1);
      if (shown.length) set(0, shown[0]);
      draw();
    }

    // ---- runs

    function takeFrame(message) {
      const i = message.row;
      if (!live.has(i)) {
        live.add(i);
        set(i, { n: message.n, t: [], frames: [] });
      }
      const row = shown[i];
      row.t.push(message.t);
      row.frames.push(ddpm.bytesOf(message.data));
      row.step = message.step;
      row.steps = message.steps;
      show(message.t); // frames come in the order of t, which itself is moved at the end
      run.progress(message.share);
      run.note("rows.running", () => ({ t: message.t }));
    }

    async function takeRow({ row, key, run: number }) {
      const found = await fetch(key).catch(() => null);
      if (!found || run.number() !== number) return Boolean(found);
      set(row, { ...unpack(found), found });
      draw();
      return true;
    }

    async function finish({ run: number }) {
      const complete = (await Promise.all(waiting)).every(Boolean);
      if (run.number() !== number) return;
      if (!complete) return run.end("reverse.failed");
      run.end();
      if (linked) show(nearest(ddpm.shared.get("t")));
      else goTo(end());
      done();
    }

    const run = ddpm.runs(element, {
      send, expect, busy,
      take(message) {
        if (message.kind === "frame") takeFrame(message);
        else if (message.kind === "row") waiting.push(takeRow(message));
        else finish(message);
      },
      stopped() {
        shown.forEach((row, i) => live.has(i) && set(i, row)); // its marks
        run.tell("rows.stopped");
        if (!linked) share(here);
        draw();
      },
    });

    let linked = false; // a link has set t: it stays there, whatever is drawn
    function keepT() {
      linked = true;
      if (ts.length) show(nearest(ddpm.shared.get("t")));
    }

    function start(message) {
      linked = false;
      player.pause();
      live = new Set();
      waiting = [];
      run.start(message);
    }

    // ---- before the first click: noise at once, then the rows that were drawn in advance

    // keys(): the server function that names them; took(i, found): into row i; wanted(): whether they still are.
    // Whether they are there now.
    async function showExample(keys, took, wanted = () => true) {
      run.tell("reverse.drawing");
      draw();
      for (const row of heads()) [...row.querySelectorAll("canvas")].forEach((canvas, k) => ddpm.paint(canvas, ddpm.normal(k + 1, count)));
      const found = await ddpm.untilDrawn(async () => {
        const drawn = await Promise.all(((await keys()) ?? []).map((key) => fetch(key)));
        return drawn.length && drawn.every(Boolean) && drawn;
      }, () => run.number() === 0 && wanted());
      if (found?.length !== shown.length) return false; // a visitor's own rows are on screen
      found.forEach((trajectory, i) => {
        took(i, trajectory);
        set(i, { ...unpack(trajectory), found: trajectory });
      });
      show(linked ? nearest(ddpm.shared.get("t")) : 0); // the finished pictures are what is compared first
      return true;
    }

    const nearest = (t) => (ts.length ? ts[nearestFrame(ts, t)] : t);
    const share = ddpm.sharing(element, (t) => {
      if (run.active() || !ts.length) return;
      player.pause();
      show(nearest(t));
    });
    ddpm.onTheme(draw);
    ddpm.onLanguage(() => {
      bar.show(here);
      showPlane(KINDS[plane]);
    });
    bar.show(here);
    showPlane("xt");
    return { add, remove, draw, start, keepT, showPlane, showExample, run, heads, found: (i) => shown[i].found };
  }

  ddpm.rows = rows;
})();
