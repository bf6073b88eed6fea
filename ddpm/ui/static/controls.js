// Small controls that several tabs have: a switch between a few choices (parts.switch), copying, and the focus when one
// button replaces another.
// Needs nothing. Gives switchOf, copy, keepFocus.
(() => {
  const switches = new WeakMap(); // element -> what switchOf returns for it

  // The switch in an element: buttons in a row, one of which is pressed. `attribute`: where a button has its value.
  // Returns values; value(), the pressed one; show(value), which presses it; choose(value), which also calls the
  // listeners, as a visitor's click does; onChoose(listener); disable(on).
  function switchOf(element, attribute = "value") {
    if (!switches.has(element)) switches.set(element, makeSwitch(element, attribute));
    return switches.get(element);
  }

  function makeSwitch(element, attribute) {
    const listeners = [];
    const buttons = [...element.querySelectorAll("button")];
    const named = (button) => button.dataset[attribute];

    function show(value) {
      for (const button of buttons) button.setAttribute("aria-pressed", named(button) === value);
    }

    function choose(value) {
      show(value);
      for (const listener of listeners) listener(value);
    }

    for (const button of buttons) button.addEventListener("click", () => choose(named(button)));
    return {
      values: buttons.map(named),
      value: () => buttons.filter((button) => button.ariaPressed === "true").map(named)[0],
      show,
      choose,
      onChoose: (listener) => listeners.push(listener),
      disable(on) {
        for (const button of buttons) button.disabled = on;
      },
    };
  }

  // Copies a text and returns whether that worked. Only secure pages have a clipboard; elsewhere the browser copies the
  // selection, which `select` makes.
  async function copy(text, select) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      select();
      return document.execCommand("copy");
    }
  }

  // Calls `change`, which hides some of the buttons, and moves the focus to next() if one of them had it.
  function keepFocus(buttons, change, next) {
    const focused = buttons.includes(document.activeElement);
    change();
    if (focused) next().focus();
  }

  Object.assign(ddpm, { switchOf, copy, keepFocus });
})();
