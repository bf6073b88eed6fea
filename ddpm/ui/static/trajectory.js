// A trajectory: the pictures of a reverse process, {n: pictures per frame, t: of each frame (descending, 0 = finished),
// frames: their bytes}.
// Needs language.js, pictures.js. Gives trajectory: KINDS, unpack, picture, paint, nearestFrame, numberOf,
// samplerName.
(() => {
  const { count } = ddpm; // bytes of one picture
  const KINDS = ["xt", "x0_hat", "eps_hat"]; // planes of a frame, in this order

  function unpack(found) {
    const bytes = ddpm.bytesOf(found.data);
    const length = KINDS.length * found.n * count;
    const frames = found.t.map((_, i) => bytes.subarray(i * length, (i + 1) * length));
    return { request: found.request, n: found.n, t: found.t, frames };
  }

  // The bytes of picture i of a plane; `kind` is its index.
  function picture({ n, frames }, frame, kind, i) {
    const at = kind * n + i;
    return frames[frame].subarray(at * count, (at + 1) * count);
  }

  const paint = (canvas, kind, bytes) => (kind === 2 ? ddpm.paintNoiseBytes : ddpm.paintBytes)(canvas, bytes);

  // The index of the frame whose t is closest.
  function nearestFrame(ts, t) {
    let best = 0;
    ts.forEach((value, i) => {
      if (Math.abs(value - t) < Math.abs(ts[best] - t)) best = i;
    });
    return best;
  }

  // The value of a number field, null if it is empty.
  const numberOf = (field) => (field.value.trim() === "" ? null : Number(field.value));

  // "DDIM, η = 0.5"
  const samplerName = ({ sampler, eta }) => ddpm.say(`sampler.${sampler}`) + (eta ? `, \u03b7 = ${eta}` : "");

  ddpm.trajectory = { KINDS, unpack, picture, paint, nearestFrame, numberOf, samplerName };
})();
