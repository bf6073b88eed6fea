// The picture that the tabs look at, and its noise: drawn on the pad, chosen or uploaded in any tab, shown in all.
// Loaded once in the page's head, after ddpm.js.
(() => {
  const { shared, count } = ddpm;
  const { resolution: size, channels } = ddpm.page;
  const FINE = 10; // strokes go to a finer canvas and are averaged down, so a line has soft edges like a scanned digit's

  let example = null; // index of the stored example on the pads: the first stroke starts on an empty sheet
  let choices = 0; // of a picture so far: a file that is still being read may be overtaken
  let touched = false; // a visitor has chosen a picture, so examples that arrive late leave it alone
  const choosing = new Set(); // one listener a picker: the example that is shown has changed

  function setPicture(bytes, { index = null, settled = true } = {}) {
    example = index;
    choices++;
    shared.set("picture", bytes);
    if (settled) shared.set("settled", bytes);
    choosing.forEach((listener) => listener());
  }

  const exampleAt = (k) => shared.get("examples").subarray(k * count, (k + 1) * count);

  // Which example is shown; null if the picture is a visitor's own, or stands in for examples that are still to come.
  const shownExample = {
    get: () => (example >= 0 ? example : null),
    at: exampleAt,
    own: () => example === null && touched,
    set(k) {
      touched = true;
      setPicture(exampleAt(k), { index: k });
    },
  };

  // Until a colour model has drawn its own examples: a shaded ball.
  function ball() {
    const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
    const pen = canvas.getContext("2d");
    const shade = pen.createRadialGradient(size * 0.4, size * 0.35, 0, size / 2, size / 2, size * 0.42);
    shade.addColorStop(0, "#ffe9a8");
    shade.addColorStop(0.55, "#e2763a");
    shade.addColorStop(0.98, "#7a2b3d");
    shade.addColorStop(1, "#16202e");
    pen.fillStyle = shade;
    pen.fillRect(0, 0, size, size);
    return pixelsOf(pen);
  }

  // The pixels of a canvas of the model's size.
  function pixelsOf(context) {
    const rgba = context.getImageData(0, 0, size, size).data;
    const bytes = new Uint8ClampedArray(count);
    for (let i = 0; i < size * size; i++) {
      const [r, g, b] = rgba.subarray(4 * i, 4 * i + 3);
      if (channels === 3) bytes.set([r, g, b], 3 * i);
      else bytes[i] = 0.299 * r + 0.587 * g + 0.114 * b;
    }
    return bytes;
  }

  // The first picture: one of the examples, unless a visitor has drawn something meanwhile.
  function setExamples(bytes, first) {
    shared.set("examples", bytes);
    if (!touched) setPicture(exampleAt(first), { index: first });
  }

  // Brings the pad and the tools of a tab to life (parts.pad, parts.tools).
  function picker(element) {
    const $ = (selector) => element.querySelector(selector);
    const pad = $(".pad");
    const sheet = Object.assign(document.createElement("canvas"), { width: size * FINE, height: size * FINE });
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    let last = null; // the pen's place while it is down
    let mine = null; // the picture that is on the sheet

    // ---- drawing

    function wipe() {
      pen.fillStyle = "#000";
      pen.fillRect(0, 0, sheet.width, sheet.height);
    }

    function readSheet(settled) {
      const pixels = pen.getImageData(0, 0, sheet.width, sheet.height).data;
      mine = new Uint8ClampedArray(count);
      for (let y = 0, i = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          for (let c = 0; c < channels; c++, i++) {
            let sum = 0;
            for (let v = 0; v < FINE; v++) {
              let at = 4 * ((y * FINE + v) * sheet.width + x * FINE) + c;
              for (let u = 0; u < FINE; u++, at += 4) sum += pixels[at];
            }
            mine[i] = sum / (FINE * FINE);
          }
        }
      }
      touched = true;
      setPicture(mine, { settled });
    }

    function place(event) {
      const box = pad.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * sheet.width, ((event.clientY - box.top) / box.height) * sheet.height];
    }

    function stroke(from, to) {
      pen.strokeStyle = "#fff";
      pen.lineCap = pen.lineJoin = "round";
      pen.lineWidth = sheet.width * (size <= 12 ? 0.13 : 0.085); // as thick as the strokes of the data
      pen.beginPath();
      pen.moveTo(...from);
      pen.lineTo(...to);
      pen.stroke();
    }

    pad.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      pad.setPointerCapture(event.pointerId);
      if (example !== null && channels === 1) wipe();
      last = place(event);
      stroke(last, last);
      readSheet(false);
    });
    pad.addEventListener("pointermove", (event) => {
      if (!last) return;
      for (const step of event.getCoalescedEvents?.() ?? [event]) {
        const next = place(step);
        stroke(last, next);
        last = next;
      }
      readSheet(false);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      pad.addEventListener(end, () => {
        if (last) shared.set("settled", shared.get("picture"));
        last = null;
      });
    }

    // ---- the tools

    $(".clear").addEventListener("click", () => {
      wipe();
      readSheet(true);
    });
    $(".renoise").addEventListener("click", () => shared.set("noise", shared.get("noise") + 1));

    // What there is to say of a file, until there is another picture: [key, its name].
    const status = $(".picker-status");
    let remark = null;
    function say(next) {
      remark = next;
      status.classList.toggle("refused", remark?.[0] === "forward.upload.failed");
      if (remark) ddpm.setText(status, remark[0], { name: remark[1] });
      else status.replaceChildren();
    }
    ddpm.onLanguage(() => remark && say(remark));
    shared.on("picture", () => remark && say(null));

    // Mean brightness of the outermost pixels, 0 to 255.
    function edge(bytes) {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += bytes[i] + bytes[count - 1 - i] + bytes[i * size] + bytes[i * size + size - 1];
      return sum / (4 * size);
    }
    // Ink on paper, where the model's own pictures are bright on dark.
    function isInk(bytes) {
      if (channels !== 1 || !shared.get("examples") || edge(exampleAt(0)) > 64) return false;
      return edge(bytes) > 128 && bytes.reduce((a, b) => a + b, 0) / count < edge(bytes) - 5;
    }

    // The middle square of a picture, in the model's resolution, decoded by the browser: nothing is sent anywhere.
    async function showFile(file) {
      const mine = ++choices;
      try {
        const image = await createImageBitmap(file);
        if (mine !== choices) return image.close();
        const side = Math.min(image.width, image.height);
        const small = Object.assign(document.createElement("canvas"), { width: size, height: size });
        const context = small.getContext("2d");
        context.fillRect(0, 0, size, size); // transparent pictures lie on black, as digits do
        context.imageSmoothingQuality = "high";
        context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
        image.close();
        touched = true;
        const bytes = pixelsOf(context);
        const ink = isInk(bytes);
        setPicture(ink ? bytes.map((value) => 255 - value) : bytes);
        if (ink) say(["forward.upload.inverted", file.name]);
      } catch {
        if (mine === choices) say(["forward.upload.failed", file.name]);
      }
    }
    const fileInput = $('input[type="file"]');
    fileInput.addEventListener("change", () => {
      if (fileInput.files[0]) showFile(fileInput.files[0]);
      fileInput.value = "";
    });
    pad.addEventListener("dragover", (event) => event.preventDefault());
    pad.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) showFile(event.dataTransfer.files[0]);
    });

    // ---- the examples

    function buildExamples() {
      const bytes = shared.get("examples");
      if (!bytes) return;
      $(".examples").replaceChildren(...Array.from({ length: bytes.length / count }, (_, k) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "example";
        const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size, className: "pixels" });
        ddpm.paintBytes(canvas, exampleAt(k));
        button.append(canvas);
        button.addEventListener("click", () => shownExample.set(k));
        return button;
      }));
      nameExamples();
      markExample();
    }
    function nameExamples() {
      [...$(".examples").children].forEach((button, k) => button.setAttribute("aria-label", ddpm.say("forward.example", { i: k })));
    }
    function markExample() {
      [...$(".examples").children].forEach((button, k) => button.setAttribute("aria-pressed", k === example));
    }

    wipe();
    choosing.add(markExample);
    ddpm.onLanguage(nameExamples);
    shared.on("examples", buildExamples);
    shared.on("picture", (bytes) => {
      ddpm.paintBytes(pad, bytes);
      if (bytes === mine) return;
      pen.imageSmoothingEnabled = false;
      pen.drawImage(pad, 0, 0, sheet.width, sheet.height); // so that strokes can go over it
    });
  }

  // What a tab asks the server about the picture: again at every new one, while the tab is in front.
  //   send(message): triggers the tab's event; expect(message): the server function that says which run is waited for
  //   now, so that those before it end; fetch(key): the one that hands out what "done" names;
  //   start(), part(message), done(what was fetched): what the tab shows; ended(): no answer will come.
  const PAUSE_MS = 120; // strokes that follow each other are one picture
  const RETRY_MS = 4000; // until a server that was busy is asked again
  // Nobody guesses it, so nobody ends what is another's.
  const visitor = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
  function asking(element, { send, expect, fetch, start, part = () => {}, done, ended = () => {} }) {
    const status = element.querySelector(".answer");
    const { tell, note, refuse } = ddpm.line(status);
    const patience = ddpm.patience((why) => giveUp(`answer.${why}`));
    const here = ddpm.front(element, (shown) => shown && watching && ask());
    let [run, asked, pause, retry, watching] = [0, null, 0, 0, false];

    function end() {
      patience.end();
      [pause, retry].forEach(clearTimeout);
    }

    function giveUp(key) {
      forget();
      tell(key, undefined, key !== "answer.busy");
      if (key === "answer.busy") retry = setTimeout(() => ask(), RETRY_MS * (0.75 + Math.random() / 2));
    }

    const expectRun = (number) => expect({ visitor, run: number }).catch(() => {}); // saves work, no more

    const sender = ddpm.onLoss((key, lostRun) => (lostRun ?? run) === run && status.dataset.state === "asked" && giveUp(key));

    function ask({ again = false } = {}) {
      const next = { bytes: shared.get("settled"), seed: shared.get("noise") };
      if (!next.bytes || (!again && asked && asked.bytes === next.bytes && asked.seed === next.seed)) return;
      if (!here.shown) return forget(); // asks when it comes to the front
      if (ddpm.isLost()) return giveUp("answer.lost");
      end();
      asked = next;
      const mine = ++run;
      expectRun(mine);
      patience.queued();
      status.dataset.state = "asked";
      start();
      pause = setTimeout(() => send({ visitor, sender, run: mine, x0: ddpm.base64Of(next.bytes), noise_seed: next.seed }), PAUSE_MS);
    }

    async function take(message) {
      if (!message || message.run !== run) return;
      patience.heard();
      if (message.kind === "part") return part(message);
      if (message.kind === "refused") {
        forget();
        return refuse(message);
      }
      const found = message.kind === "done" && (await fetch(message.key).catch(() => null));
      if (message.run !== run) return;
      if (!found) return giveUp("answer.failed");
      end();
      done(found);
      status.dataset.state = "done";
    }

    // Answers that are on their way are nobody's any more.
    function stop() {
      if (status.dataset.state !== "asked") return;
      status.dataset.state = "";
      end();
      expectRun(++run);
      ended();
    }

    // The same, and the picture is asked about again at the next occasion.
    function forget() {
      stop();
      asked = null;
    }

    return {
      tell, note, take, ask, stop,
      // From now on. A tab that is not in front asks when it comes there.
      watch() {
        watching = true;
        shared.on("settled", () => ask());
        shared.on("noise", () => ask());
      },
    };
  }

  // One that a tab puts there for its visitor; `index`: which example it is, null for none.
  function choosePicture(bytes, index) {
    touched = true;
    setPicture(bytes, { index });
  }

  if (channels === 3) setPicture(ball(), { index: -1 });
  Object.assign(ddpm, { picker, setExamples, choosePicture, example: shownExample, asking, visitor });
})();
