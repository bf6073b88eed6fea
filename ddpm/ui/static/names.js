// The names of a model's classes as a choice (parts of tabs/labels.py): a button for each and one for "no label"; of
// many names some, and a field to search for the others.
// Needs language.js, labelling.js. Gives nameChoice.
(() => {
  const { labels: names, unlabelled } = ddpm.page;
  const FEW = 20; // names that are all shown
  const MOST = 24; // buttons that a search shows
  const NONE = -1;

  // Brings the choice in an element to life.
  //   first: the number of the one that is chosen at first; chosen(number): the visitor has chosen another one, -1 for
  //   no label.
  // Returns value(); set(number), which calls nobody; name(number); setting, for links.js.
  function nameChoice(element, { first, chosen }) {
    const [find, list, rest] = [".find", ".list", ".rest"].map((part) => element.querySelector(part));
    const many = names.length > FEW;
    let at = first;
    find.hidden = !many;
    const without = unlabelled === null ? "reverse.label.none" : "reverse.label.none_is";
    const name = (number) => (number === NONE ? ddpm.say(without, { name: unlabelled }) : names[number]);

    function button(number) {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: name(number) });
      made.dataset.value = number;
      if (number === NONE) made.className = "none";
      made.setAttribute("aria-pressed", number === at);
      made.addEventListener("click", () => {
        if (number === at) return;
        set(number);
        chosen(number);
      });
      return made;
    }

    // The names that fit what is searched for, the chosen one first, where they are not all shown.
    function draw() {
      const text = find.value.trim().toLowerCase();
      const all = names.map((_, number) => number);
      const fits = all.filter((number) => names[number].toLowerCase().includes(text));
      const shown = fits.slice(0, many ? MOST : names.length);
      if (many && at !== NONE && !shown.includes(at)) shown.unshift(at);
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.value : null;
      list.replaceChildren(...(many ? [NONE, ...shown] : [...shown, NONE]).map(button));
      list.querySelector(`[data-value="${focused}"]`)?.focus();
      if (!many) return;
      const key = text ? "labels.found" : "labels.rest";
      ddpm.setText(rest, key, { n: text ? fits.length : names.length, shown: shown.length, text: find.value.trim() });
      const says = ddpm.say("labels.find", { n: names.length });
      find.setAttribute("aria-label", says);
      find.placeholder = says;
    }

    function set(number) {
      at = number;
      draw();
    }

    find.addEventListener("input", draw);
    find.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // else it sends the form
      list.querySelector('button:not(.none, [aria-pressed="true"])')?.click();
    });
    ddpm.onLanguage(draw);
    draw();

    const setting = {
      read: () => (at === NONE ? "none" : names[at]),
      apply(value) {
        const number = ddpm.labelling.numberOf(value.trim());
        if (number === null) return ddpm.labelling.refused();
        set(number);
      },
    };
    return { value: () => at, set, name, setting };
  }

  Object.assign(ddpm, { nameChoice });
})();
