// The label that a sampling asks for, and its guidance scale (parts.label_fields), in forms and in the heads of rows.
// The page of a model without labels has no such fields.
// Needs language.js, trajectory.js. Gives labelling: fields, isGiven, told, said, numberOf, refused.
(() => {
  const { labels: names, unlabelled } = ddpm.page; // the name of each class; which of them is drawn without a label
  const NONE = -1; // stands for "no label" among the numbers of classes
  const LONG = 24; // characters of a name within a sentence
  const MANY = 24; // names in a message

  const isGiven = ({ label = NONE }) => label !== NONE;

  // What the texts tell of a request with a label: {name, s}.
  function told({ label, guidance_scale: s }) {
    const name = names[label] ?? String(label);
    const short = name.length > LONG ? `${name.slice(0, LONG - 1)}\u2026` : name;
    return { name: short, s: s === null ? "\u2026" : Number(s.toFixed(2)) };
  }

  // ", label 3, s = 2", within a sentence; nothing for a request without a label.
  const said = (request) => (isGiven(request) ? ddpm.say("reverse.label.said", told(request)) : "");

  // The number of a class by its name in a link, in any case of letters if that is clear; null if there is none.
  function numberOf(name) {
    if (names.includes(name)) return names.indexOf(name);
    const plain = (text) => text.toLowerCase();
    if (["", "none"].includes(plain(name))) return NONE;
    const alike = names.map((_, i) => i).filter((i) => plain(names[i]) === plain(name));
    return alike.length === 1 ? alike[0] : null;
  }

  // Why a link cannot have a label: [key, fields], see links.js.
  function refused() {
    if (!names.length) return ["refused.no_labels", {}];
    const more = names.length > MANY ? ` \u2026 (${names.length})` : "";
    return ["refused.label", { choices: names.slice(0, MANY).join(", ") + more }];
  }

  // Brings the fields in an element to life.
  // Returns read(), which gives {label, guidance_scale} of a request, and {} where the model has no labels;
  // write(request); label and s, settings for `linkable`.
  function fields(element) {
    const select = element.querySelector('[name="label"]');
    if (!select) {
      const setting = { read: () => null, apply: refused };
      return { read: () => ({}), write() {}, label: setting, s: setting };
    }
    const scale = element.querySelector('[name="guidance_scale"]');
    const none = new Option("", NONE);
    none.dataset.text = unlabelled === null ? "reverse.label.none" : "reverse.label.none_is";
    none.dataset.name = unlabelled ?? "";
    ddpm.setText(none, none.dataset.text, none.dataset);
    select.replaceChildren(none, ...names.map((name, i) => new Option(name, i)));

    function fit() {
      scale.closest("label").hidden = Number(select.value) === NONE;
    }

    function write({ label = NONE, guidance_scale: s = 1 }) {
      select.value = label;
      scale.value = s;
      fit();
    }

    function apply(name) {
      const label = numberOf(name);
      if (label === null) return refused();
      select.value = label;
      for (const kind of ["input", "change"]) select.dispatchEvent(new Event(kind, { bubbles: true }));
    }

    select.addEventListener("input", fit);
    fit();
    return {
      read() {
        const label = Number(select.value);
        return { label, guidance_scale: label === NONE ? 1 : ddpm.trajectory.numberOf(scale) };
      },
      write,
      label: { read: () => names[select.value] ?? null, apply },
      s: scale,
    };
  }

  ddpm.labelling = { fields, isGiven, told, said, numberOf, refused };
})();
