// A trajectory: the pictures of a reverse process, {n: pictures per frame, t: of each frame (descending, 0 = finished),
// frames: their bytes}. The frames of a large model are smaller than its pictures; then `whole` has the finished ones.
// Needs language.js, pictures.js. Gives trajectory: KINDS, fetch, picture, plane, paint, thinned, nearestFrame, numberOf,
// samplerName, takesEta.
(() => {
  const { channels, width, height } = ddpm.page;
  const KINDS = ["xt", "x0_hat", "eps_hat"]; // planes of a frame, in this order
  const FIRST_BYTES = 96 * 1024; // of the first part that is fetched;
  const PART_MS = 700; // the others are as large as what the line delivers in about this time

  // The indices 0 ... n - 1, of frames: the finished one first, then ever closer together.
  function coarseToFine(n) {
    const order = new Set([n - 1]);
    for (let stride = 2 ** Math.ceil(Math.log2(n)); stride >= 1; stride /= 2) {
      for (let i = 0; i < n; i += stride) order.add(i);
    }
    return [...order];
  }

  // Fetches a trajectory of the server in parts, so that on a slow line the finished pictures come first.
  //   ask(asked): the server function; key: of the trajectory; have: frames that have come already, by their t;
  //   part(known, done, total): the frames that are there so far, called with each part but the last.
  // Resolves to the trajectory, with `found`: what the server says of it; to null if the server does not have it.
  async function fetch(ask, key, { have = new Map(), part = () => {} } = {}) {
    const found = await ask({ key, frames: [] });
    if (!found) return null;
    const { request, n, side, height: high, t } = found;
    const length = KINDS.length * n * side * high * channels;
    const frames = t.map((at) => have.get(at));
    const missing = coarseToFine(t.length).filter((i) => !frames[i]);
    let whole = null;
    let bytes = FIRST_BYTES;
    while (missing.length) {
      const asked = missing.splice(0, Math.max(1, Math.round(bytes / length)));
      const before = performance.now();
      const answer = await ask({ key, frames: asked });
      if (!answer) return null; // the server has dropped it meanwhile
      const data = ddpm.bytesOf(answer.data);
      asked.forEach((i, k) => {
        frames[i] = data.subarray(k * length, (k + 1) * length);
      });
      if (answer.whole) whole = ddpm.bytesOf(answer.whole);
      bytes *= Math.max(0.5, Math.min(4, PART_MS / (performance.now() - before)));
      const there = t.map((_, i) => i).filter((i) => frames[i]);
      const known = { request, n, t: there.map((i) => t[i]), frames: there.map((i) => frames[i]), whole };
      if (missing.length) part(known, there.length, t.length);
    }
    return { key, request, n, t, frames, whole, found };
  }

  // The bytes of all pictures of a plane, in the size of the frames; `kind` is its index.
  function plane({ frames }, frame, kind) {
    const length = frames[frame].length / KINDS.length;
    return frames[frame].subarray(kind * length, (kind + 1) * length);
  }

  // The bytes of picture i of a plane; of the finished pictures in the size of the model.
  function picture(trajectory, frame, kind, i) {
    const { n, t, whole } = trajectory;
    const pictures = whole && !t[frame] && kind < 2 ? whole : plane(trajectory, frame, kind);
    const length = pictures.length / n;
    return pictures.subarray(i * length, (i + 1) * length);
  }

  const paint = (canvas, kind, bytes) => (kind === 2 ? ddpm.paintNoiseBytes : ddpm.paintBytes)(canvas, bytes);

  // What the server has left out of a trajectory to keep it small, as parts of a sentence.
  function thinned({ side, height: high, t, request: { num_inference_steps: steps } }) {
    const parts = [];
    if (t.length <= steps) parts.push(ddpm.say("reverse.kept", { kept: t.length - 1, steps }));
    const sizes = { small: `${side} × ${high}`, whole: `${width} × ${height}` };
    if (side < width) parts.push(ddpm.say("reverse.small", sizes));
    return parts;
  }

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

  // Whether the share of fresh noise is a choice with this sampler.
  const takesEta = (sampler) => ddpm.page.eta_samplers.includes(sampler);

  // "DDIM, η = 0.5"
  const samplerName = ({ sampler, eta }) => ddpm.say(`sampler.${sampler}`) + (eta ? `, \u03b7 = ${eta}` : "");

  ddpm.trajectory = { KINDS, fetch, picture, plane, paint, thinned, nearestFrame, numberOf, samplerName, takesEta };
})();
