// Tables of noise schedules, the model's and others, and the formats of numbers.
// Needs `ddpm.page`. Gives scheduleOf, own, T, beta, alphaBar, firstT; format.
(() => {
  // {beta, alphaBar, snrDb (decibels)} of a schedule. beta[0] is the paper's beta_1; the index of the other tables is
  // the paper's t, and index 0 is clean data.
  function scheduleOf(betas) {
    const beta = Float64Array.from(betas);
    const alphaBar = new Float64Array(beta.length + 1).fill(1);
    for (let t = 1; t <= beta.length; t++) alphaBar[t] = alphaBar[t - 1] * (1 - beta[t - 1]);
    return { beta, alphaBar, snrDb: alphaBar.map((a) => 10 * Math.log10(a / (1 - a))) };
  }

  const own = scheduleOf(ddpm.page.beta);
  const { beta, alphaBar } = own;
  const T = beta.length;

  // ---------------------------------------------------------------- numbers as text

  const SUPERSCRIPT = { "-": "\u207b", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3" }; // the others follow U+2070 in order
  const superscript = (digit) => SUPERSCRIPT[digit] ?? String.fromCodePoint(0x2070 + Number(digit));
  const minus = (string) => string.replace("-", "\u2212");

  // 10 to the power of n: 1, 10, 10², 10⁻⁵.
  function power(n) {
    if (n === 0 || n === 1) return String(10 ** n);
    return `10${[...String(n)].map(superscript).join("")}`;
  }

  // A number of any size with three significant figures: 0.0123, 4.56, 1.2·10⁻⁵.
  function significant(value) {
    if (value === 0) return "0";
    const n = Math.floor(Math.log10(Math.abs(value)));
    if (n < -3 || n > 4) return `${minus((value / 10 ** n).toFixed(1))}\u00b7${power(n)}`;
    return minus(value.toPrecision(n >= 2 ? n + 1 : 3));
  }

  const format = {
    alphaBar: (t, { alphaBar } = own) => alphaBar[t].toFixed(alphaBar[t] < 0.001 ? 5 : 4),
    snr: (t, { snrDb } = own) => minus(snrDb[t].toFixed(1)).replace("Infinity", "\u221e"),
    beta: (t, { beta } = own) => beta[t - 1].toFixed(5),
    fixed: (value, digits) => minus(value.toFixed(digits)),
    significant,
    power,
  };

  const firstT = Math.max(1, Math.round(0.3 * T)); // where the slider stands when the page opens
  Object.assign(ddpm, { scheduleOf, own, T, beta, alphaBar, firstT, format });
})();
