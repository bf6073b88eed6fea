// The picture that the tabs show, and its noise: drawn on the pad, chosen or uploaded in any tab, the same in all.
// Needs memory.js, language.js, shared.js, pictures.js, ink.js. Gives picker, setExamples, choosePicture, example.
(() => {
  const { shared, count, newCanvas } = ddpm;
  const { width, height, channels } = ddpm.page;
  const side = Math.min(width, height);
  const FINE = 10; // strokes are averaged down from a finer canvas, which gives them soft edges like a scanned digit's

  let example = null; // index of the example on the pads, null for none; -1: the ball stands in for one
  let choices = 0; // how many pictures were chosen so far: another may be chosen while a file is still being read
  let touched = false; // a visitor has chosen a picture, so late examples do not replace it
  const choosing = new Set(); // listeners, one for each picker: another picture is on the pads

  function setPicture(bytes, { index = null, settled = true } = {}) {
    example = index;
    choices++;
    shared.set("picture", bytes);
    if (settled) shared.set("settled", bytes);
    for (const listener of choosing) listener();
  }

  const exampleAt = (k) => shared.get("examples").subarray(k * count, (k + 1) * count);

  // get(): which example is shown, null for the visitor's own picture, or while there are no examples yet; own():
  // whether it is the visitor's own.
  const shownExample = {
    get: () => (example >= 0 ? example : null),
    at: exampleAt,
    own: () => example === null && touched,
    set: (k) => choosePicture(exampleAt(k), k),
  };

  // Shows a picture that the visitor has chosen. `index`: which example it is, null for none.
  function choosePicture(bytes, index) {
    touched = true;
    setPicture(bytes, { index });
  }

  // Takes the examples, and shows one of them unless the visitor has drawn something meanwhile.
  function setExamples(bytes, first) {
    shared.set("examples", bytes);
    if (!touched) setPicture(exampleAt(first), { index: first });
  }

  // A shaded ball stands in until a model without stored examples has drawn its own.
  function ball() {
    const pen = newCanvas().getContext("2d");
    const [x, y] = [width / 2, height / 2];
    const shade = pen.createRadialGradient(x - side * 0.1, y - side * 0.15, 0, x, y, side * 0.42);
    shade.addColorStop(0, "#ffe9a8");
    shade.addColorStop(0.55, "#e2763a");
    shade.addColorStop(0.98, "#7a2b3d");
    shade.addColorStop(1, "#16202e");
    pen.fillStyle = shade;
    pen.fillRect(0, 0, width, height);
    return pixelsOf(pen);
  }

  // The pixels of a canvas of the model's size.
  function pixelsOf(context) {
    const rgba = context.getImageData(0, 0, width, height).data;
    const bytes = new Uint8ClampedArray(count);
    for (let i = 0; i < width * height; i++) {
      const [r, g, b] = rgba.subarray(4 * i, 4 * i + 3);
      if (channels === 3) bytes.set([r, g, b], 3 * i);
      else bytes[i] = 0.299 * r + 0.587 * g + 0.114 * b;
    }
    return bytes;
  }

  // ---------------------------------------------------------------- paper and ink

  // The ground on which visitors draw, red, green and blue: black for gray pictures, as digits have it. In colour it is
  // what most of the corners of the examples are; white where none has most, as in photographs, and before they come.
  function ground() {
    if (channels === 1) return [0, 0, 0];
    const examples = shared.get("examples") ?? new Uint8ClampedArray();
    const corners = [0, width - 1, width * (height - 1), width * height - 1];
    const tally = new Map();
    for (let first = 0; first < examples.length; first += count) {
      for (const corner of corners) {
        const at = first + corner * channels;
        const colour = examples.subarray(at, at + channels).join();
        tally.set(colour, (tally.get(colour) ?? 0) + 1);
      }
    }
    const [colour, times] = [...tally].reduce((a, b) => (b[1] > a[1] ? b : a), [null, 0]);
    if (2 * times * count > examples.length * corners.length) return colour.split(",").map(Number);
    return [255, 255, 255];
  }

  const paper = () => `rgb(${ground().join()})`;
  // Ink that shows on the paper.
  const plainInk = () => (ground().reduce((a, b) => a + b) > 3 * 128 ? "#000000" : "#ffffff");

  const INKS = {
    black: "#000000",
    white: "#ffffff",
    red: "#e53935",
    orange: "#fb8c00",
    yellow: "#fdd835",
    green: "#43a047",
    blue: "#1e88e5",
    brown: "#8d5a3b",
  };
  let chosenInk = null; // the visitor's own choice, where there is a palette; none: plain ink
  const inking = new Set(); // listeners, one for each palette: another ink is chosen
  const ink = () => chosenInk ?? plainInk();

  // The inks of a model of colour pictures, for the tools of a pad. The choice holds for all pads.
  function palette() {
    const name = `ink-${inking.size}`;
    const field = (type, value) => Object.assign(document.createElement("input"), { type, value, name });
    const inks = Object.entries(INKS).map(([key, value]) => [key, field("radio", value)]);
    const other = field("color", "#8e24aa");
    const box = document.createElement("div");
    box.className = "palette";
    box.setAttribute("role", "group");
    for (const [key, input] of [...inks, ["other", other]]) {
      const label = Object.assign(document.createElement("label"), { className: `swatch ${key}` });
      const swatch = document.createElement("i");
      label.append(input, swatch);
      box.append(label);
      input.addEventListener("input", () => {
        chosenInk = input.value;
        for (const listener of inking) listener();
      });
    }
    const show = () => {
      for (const [, input] of inks) {
        input.checked = input.value === ink();
        input.nextSibling.style.background = input.value;
      }
      const own = !inks.some(([, input]) => input.checked);
      if (own) other.value = ink();
      other.nextSibling.classList.toggle("chosen", own);
      other.nextSibling.style.background = own ? other.value : "";
    };
    const entitle = () => {
      box.setAttribute("aria-label", ddpm.say("forward.ink"));
      for (const [key, input] of [...inks, ["other", other]]) {
        input.setAttribute("aria-label", ddpm.say(`forward.ink.${key}`));
        input.parentNode.title = ddpm.say(`forward.ink.${key}`);
      }
    };
    ddpm.onLanguage(entitle);
    inking.add(show);
    shared.on("examples", show);
    entitle();
    show();
    return box;
  }

  // ---------------------------------------------------------------- a file

  // Mean brightness of the outermost pixels, 0 to 255.
  function edge(bytes) {
    let sum = 0;
    for (let x = 0; x < width; x++) sum += bytes[x] + bytes[count - 1 - x];
    for (let y = 0; y < height; y++) sum += bytes[y * width] + bytes[y * width + width - 1];
    return sum / (2 * (width + height));
  }

  // Whether a picture is dark ink on bright paper, while the model's own pictures are bright on dark.
  function isInk(bytes) {
    if (channels !== 1 || !shared.get("examples") || edge(exampleAt(0)) > 64) return false;
    return edge(bytes) > 128 && bytes.reduce((a, b) => a + b, 0) / count < edge(bytes) - 5;
  }

  // How much of the shorter side of a picture the longer side of a drawing takes in the model's own pictures; MNIST's digits take 20 of 28.
  function shareOfDrawing() {
    const examples = shared.get("examples");
    let sum = 0;
    const number = examples ? examples.length / count : 0;
    for (let k = 0; k < number; k++) {
      const at = [...exampleAt(k).keys()].filter((i) => exampleAt(k)[i] > 50);
      const extent = (places) => Math.max(...places) - Math.min(...places) + 1;
      if (at.length) sum += Math.max(extent(at.map((i) => i % width)), extent(at.map((i) => Math.floor(i / width))));
    }
    return sum ? Math.max(0.5, Math.min(1, sum / number / side)) : 20 / 28;
  }

  // The middle of an image, in the size of the model's pictures.
  function middleOf(image) {
    const scale = Math.min(image.width / width, image.height / height);
    const [wide, high] = [scale * width, scale * height];
    const context = newCanvas().getContext("2d");
    context.fillStyle = paper(); // of transparent pictures
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, (image.width - wide) / 2, (image.height - high) / 2, wide, high, 0, 0, width, height);
    return pixelsOf(context);
  }

  // A drawing of side x side bytes in the middle of a black picture.
  function inTheMiddle(drawing) {
    const bytes = new Uint8ClampedArray(count);
    const [left, top] = [Math.floor((width - side) / 2), Math.floor((height - side) / 2)];
    for (let y = 0; y < side; y++) {
      bytes.set(drawing.subarray(y * side, (y + 1) * side), (top + y) * width + left);
    }
    return bytes;
  }

  // Whether the model's own pictures are bright on black, like digits.
  const knowsDrawings = () => channels === 1 && (!shared.get("examples") || edge(exampleAt(0)) <= 64);

  // Shows the picture in a file. The browser decodes it and sends it nowhere.
  //   name: what remarks call it.
  //   say(remark): shows a remark about it, {kind, name, undo: a function or none}.
  async function showFile(file, name, say) {
    const token = ++choices;
    try {
      const image = await createImageBitmap(file);
      if (token === choices) showImage(image, name, say);
      image.close();
    } catch (error) {
      if (!(error instanceof DOMException)) console.error(error); // a browser refuses a file with a DOMException
      if (token === choices) say({ kind: "failed", name });
    }
  }

  function showImage(image, name, say) {
    const found = knowsDrawings() ? ddpm.drawingOf(image, side, shareOfDrawing()) : null;
    const drawing = found && inTheMiddle(found);
    const middle = middleOf(image);
    const ink = isInk(middle);
    const plain = ink ? middle.map((value) => 255 - value) : middle;
    const showDrawing = () => {
      choosePicture(drawing.slice(), null);
      say({ kind: "drawing", name, undo: showPlain });
    };
    const showPlain = () => {
      choosePicture(plain.slice(), null);
      if (drawing) say({ kind: "as_is", name, undo: showDrawing });
      else if (ink) say({ kind: "inverted", name });
    };
    if (drawing) showDrawing();
    else showPlain();
  }

  // Brings the tools that take a file to life: the button, and the pad, on which a file may be dropped.
  function takeFiles(element) {
    const status = element.querySelector(".picker-status");
    let remark = null; // stays until there is another picture

    function say(next) {
      remark = next;
      status.classList.toggle("refused", remark?.kind === "failed");
      if (!remark) return status.replaceChildren();
      const key = `forward.upload.${remark.kind}`;
      ddpm.setText(status, key, { name: remark.name ?? ddpm.say("forward.upload.pasted") });
      if (!remark.undo) return;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "undo" });
      ddpm.setText(button, `${key}.undo`);
      button.addEventListener("click", () => {
        remark.undo();
        status.querySelector("button").focus(); // the button that was pressed is gone
      });
      status.append(" ", button);
    }
    ddpm.onLanguage(() => remark && say(remark));
    shared.on("picture", () => remark && say(null));

    const input = element.querySelector('input[type="file"]');
    input.addEventListener("change", () => {
      if (input.files[0]) showFile(input.files[0], input.files[0].name, say);
      input.value = "";
    });
    const pad = element.querySelector(".pad");
    pad.addEventListener("dragover", (event) => event.preventDefault());
    pad.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) showFile(file, file.name, say);
    });
    document.addEventListener("paste", (event) => {
      const [file] = event.clipboardData.files;
      if (!file || !pad.checkVisibility() || event.target.matches?.("input, textarea")) return;
      event.preventDefault();
      showFile(file, null, say); // a pasted picture has a name that its owner never gave it
    });
  }

  // ---------------------------------------------------------------- the examples

  function showExamples(list) {
    const name = () => {
      [...list.children].forEach((button, k) => {
        button.setAttribute("aria-label", ddpm.say("forward.example", { i: k }));
      });
    };
    const mark = () => {
      [...list.children].forEach((button, k) => {
        button.setAttribute("aria-pressed", k === example);
      });
    };

    function build(bytes) {
      if (!bytes) return;
      const buttons = Array.from({ length: bytes.length / count }, (_, k) => {
        const button = Object.assign(document.createElement("button"), { type: "button", className: "example" });
        const canvas = newCanvas();
        ddpm.paintBytes(canvas, exampleAt(k));
        button.append(canvas);
        button.addEventListener("click", () => shownExample.set(k));
        return button;
      });
      list.replaceChildren(...buttons);
      name();
      mark();
    }

    choosing.add(mark);
    ddpm.onLanguage(name);
    shared.on("examples", build);
  }

  // ---------------------------------------------------------------- drawing

  // A fine sheet for the strokes on a pad.
  function makeSheet() {
    const [wide, high] = [width * FINE, height * FINE];
    const canvas = Object.assign(document.createElement("canvas"), { width: wide, height: high });
    const pen = canvas.getContext("2d", { willReadFrequently: true });

    function wipe() {
      pen.fillStyle = paper();
      pen.fillRect(0, 0, wide, high);
    }

    // Draws from one place to another, both in shares of the sheet.
    function stroke(from, to) {
      pen.strokeStyle = ink();
      pen.lineCap = pen.lineJoin = "round";
      pen.lineWidth = side * FINE * ddpm.strokeShare(side);
      pen.beginPath();
      pen.moveTo(wide * from[0], high * from[1]);
      pen.lineTo(wide * to[0], high * to[1]);
      pen.stroke();
    }

    // The mean of channel c over the fine pixels of a pixel.
    function mean(pixels, x, y, c) {
      let sum = 0;
      for (let v = 0; v < FINE; v++) {
        let at = 4 * ((y * FINE + v) * wide + x * FINE) + c;
        for (let u = 0; u < FINE; u++, at += 4) sum += pixels[at];
      }
      return sum / (FINE * FINE);
    }

    function read() {
      const pixels = pen.getImageData(0, 0, wide, high).data;
      const bytes = new Uint8ClampedArray(count);
      for (let y = 0, i = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          for (let c = 0; c < channels; c++, i++) bytes[i] = mean(pixels, x, y, c);
        }
      }
      return bytes;
    }

    // Copies a picture to the sheet, so that strokes can go over it.
    function lay(picture) {
      pen.imageSmoothingEnabled = false;
      pen.drawImage(picture, 0, 0, wide, high);
    }

    wipe();
    return { wipe, stroke, read, lay };
  }

  // Brings the pad and the tools of a tab to life (parts.pad, parts.tools).
  function picker(element) {
    const $ = (selector) => element.querySelector(selector);
    const pad = $(".pad");
    const sheet = makeSheet();
    let last = null; // the pen's place while it is down
    let pen = null; // the id of its pointer
    let drawn = null; // the picture that was read off the sheet

    function take(settled) {
      drawn = sheet.read();
      touched = true;
      setPicture(drawn, { settled });
    }

    function lift() {
      if (last) shared.set("settled", shared.get("picture"));
      last = null;
    }

    function place(event) {
      const box = pad.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    }

    pad.addEventListener("pointerdown", (event) => {
      if (!ddpm.isMain(event)) return;
      event.preventDefault();
      pen = event.pointerId;
      pad.setPointerCapture(pen);
      if (example !== null && channels === 1) sheet.wipe(); // a new digit begins on an empty sheet
      last = place(event);
      sheet.stroke(last, last);
      take(false);
    });
    pad.addEventListener("pointermove", (event) => {
      if (!last || event.pointerId !== pen) return;
      if (!(event.buttons & 1)) return lift(); // another button is still down
      for (const step of event.getCoalescedEvents?.() ?? [event]) {
        const next = place(step);
        sheet.stroke(last, next);
        last = next;
      }
      take(false);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      pad.addEventListener(end, (event) => event.pointerId === pen && lift());
    }

    $(".clear").addEventListener("click", () => {
      sheet.wipe();
      take(true);
    });
    $(".renoise").addEventListener("click", () => shared.set("noise", shared.get("noise") + 1));
    if (channels === 3) $(".tools").prepend(palette());
    takeFiles(element);
    showExamples($(".examples"));
    shared.on("picture", (bytes) => {
      ddpm.paintBytes(pad, bytes);
      if (bytes !== drawn) sheet.lay(pad);
    });
  }

  if (channels === 3) setPicture(ball(), { index: -1 });

  // The visitor's own picture survives a reload. An example does so as a setting, see links.js.
  const { recalled, keep } = ddpm.memory;
  keep("picture", () => (shownExample.own() ? ddpm.base64Of(shared.get("picture")) : undefined));
  if (recalled.picture) choosePicture(ddpm.bytesOf(recalled.picture), null);
  Object.assign(ddpm, { picker, setExamples, choosePicture, example: shownExample });
})();
