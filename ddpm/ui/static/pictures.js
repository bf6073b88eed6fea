// Pictures and noise: painted on canvases, packed into bytes, drawn from a seed. A picture is a flat array, row by row,
// channels last.
// Needs gradio.js (dark), shared.js (count). Gives newCanvas, sizeOf; paint, paintBytes, paintNoise, paintNoiseBytes; bytesOf,
// base64Of, halvesOf; normal.
(() => {
  const { page, count } = ddpm;
  const { channels, resolution, width, height } = page;

  // Large pictures are photographs, which a browser may smooth as it scales them; of small ones people see each pixel.
  document.documentElement.classList.toggle("photographs", resolution > ddpm.LARGE);

  document.documentElement.style.setProperty("--picture-ratio", `${width} / ${height}`);

  const newCanvas = () => Object.assign(document.createElement("canvas"), { width, height, className: "pixels" });

  // The [width, height] of a picture of so many pixels: that of the model's pictures, or of these with one pixel kept out
  // of several along each side.
  function sizeOf(pixels) {
    let factor = 1;
    while (Math.ceil(width / factor) * Math.ceil(height / factor) > pixels) factor++;
    return [Math.ceil(width / factor), Math.ceil(height / factor)];
  }

  // ---------------------------------------------------------------- painting

  // Noise is blue below zero and orange above: people with any common colour blindness can tell these two apart. Zero
  // has the background colour of the page.
  const STOPS = {
    light: [
      [9, 70, 140],
      [92, 155, 213],
      [246, 246, 247],
      [244, 160, 79],
      [166, 74, 0],
    ],
    dark: [
      [140, 200, 255],
      [46, 116, 190],
      [22, 24, 31],
      [203, 112, 22],
      [255, 196, 120],
    ],
  };

  // 256 colours, three numbers each, interpolated between five stops.
  function colourTable(stops) {
    return Uint8ClampedArray.from({ length: 256 * 3 }, (_, i) => {
      const place = (Math.floor(i / 3) / 255) * (stops.length - 1);
      const k = Math.min(Math.floor(place), stops.length - 2);
      return stops[k][i % 3] + (place - k) * (stops[k + 1][i % 3] - stops[k][i % 3]);
    });
  }
  const tables = { light: colourTable(STOPS.light), dark: colourTable(STOPS.dark) };

  const kept = new WeakMap(); // canvas -> its context and ImageData, made once

  // Of a canvas that is as large as a picture of `length` bytes.
  function target(canvas, length) {
    let found = kept.get(canvas);
    if (!found || found.image.data.length * channels !== 4 * length || found.image.width !== canvas.width) {
      const [wide, high] = sizeOf(length / channels);
      if (canvas.width !== wide) canvas.width = wide;
      if (canvas.height !== high) canvas.height = high;
      const context = canvas.getContext("2d");
      found = { context, image: context.createImageData(canvas.width, canvas.height) };
      found.image.data.fill(255);
      kept.set(canvas, found);
    }
    return found;
  }

  // Paints bytes 0 to 255 as gray or RGB.
  function paintBytes(canvas, bytes) {
    const { context, image } = target(canvas, bytes.length);
    for (let i = 0, p = 0; i < bytes.length; i += channels, p += 4) {
      image.data[p] = bytes[i];
      image.data[p + 1] = bytes[channels === 3 ? i + 1 : i];
      image.data[p + 2] = bytes[channels === 3 ? i + 2 : i];
    }
    context.putImageData(image, 0, 0);
  }

  // Paints bytes 0 to 255, which stand for -3 to 3. Colour noise is shown as the mean over channels, scaled to unit
  // variance.
  function paintNoiseBytes(canvas, bytes) {
    const { context, image } = target(canvas, bytes.length);
    const table = tables[ddpm.dark() ? "dark" : "light"];
    for (let i = 0, p = 0; i < bytes.length; i += channels, p += 4) {
      let v = bytes[i];
      if (channels === 3) v = (bytes[i] + bytes[i + 1] + bytes[i + 2] - 382.5) / Math.sqrt(3) + 127.5;
      const at = 3 * Math.max(0, Math.min(255, Math.round(v)));
      image.data[p] = table[at];
      image.data[p + 1] = table[at + 1];
      image.data[p + 2] = table[at + 2];
    }
    context.putImageData(image, 0, 0);
  }

  // The same for floats: pixels in [-1, 1], noise in units of its standard deviation. `scratch` rounds and clips.
  const scratch = new Uint8ClampedArray(count);
  function scaled(x, shift, factor) {
    for (let i = 0; i < x.length; i++) scratch[i] = (x[i] + shift) * factor;
    return scratch.subarray(0, x.length);
  }
  const paint = (canvas, x) => paintBytes(canvas, scaled(x, 1, 127.5));
  const paintNoise = (canvas, x) => paintNoiseBytes(canvas, scaled(x, 3, 42.5));

  // ---------------------------------------------------------------- bytes

  function base64Of(bytes) {
    let string = "";
    for (let i = 0; i < bytes.length; i += 8192) string += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(string);
  }

  function bytesOf(base64) {
    const string = atob(base64);
    const bytes = new Uint8Array(string.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = string.charCodeAt(i);
    return bytes;
  }

  // Every number of IEEE half precision, by its 16 bits. NaN and infinity are not needed.
  const halves = Float32Array.from({ length: 65536 }, (_, bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return exponent ? sign * (1 + fraction / 1024) * 2 ** (exponent - 15) : sign * fraction * 2 ** -24;
  });

  // The server's noise maps as floats: half precision, two bytes each, low byte first.
  const halvesOf = (base64) => Float32Array.from(new Uint16Array(bytesOf(base64).buffer), (bits) => halves[bits]);

  // ---------------------------------------------------------------- noise

  // n numbers from N(0, 1), the same for the same seed: mulberry32, then Box and Muller.
  function normal(seed, n) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
    const out = new Float32Array(n);
    for (let i = 0; i < n; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      const angle = 2 * Math.PI * uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < n) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  Object.assign(ddpm, {
    newCanvas,
    sizeOf,
    paint,
    paintBytes,
    paintNoise,
    paintNoiseBytes,
    bytesOf,
    base64Of,
    halvesOf,
    normal,
  });
})();
