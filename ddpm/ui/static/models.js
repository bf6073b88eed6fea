// The list of models in the header, where there is more than one, and what to say about a model that cannot be shown.
// To choose a model is to open another page, since size, labels, schedule and T may all differ.
// Needs memory.js, language.js, links.js. Gives models.
(() => {
  const { page, say } = ddpm;
  const { models: all, model: here } = page;

  // What the models of a list differ in, as parts of a sentence.
  function described({ source, count, width, height, channels, labels }) {
    const parts = [
      say("models.size", { width, height, colours: say(channels === 1 ? "models.gray" : "models.colour") }),
    ];
    parts.push(say("page.parameters", { count }));
    if (labels) parts.push(say("page.labels", { count: labels }));
    parts.push(say(source)); // of the Hub, its id, which is no key and stays as it is
    return parts.join(" \u00b7 ");
  }

  // Why a model cannot be shown, for where its name stands beside it.
  const reasonOf = ({ name, reason }) => (reason.startsWith(`${name}: `) ? reason.slice(name.length + 2) : reason);

  function span(css, textContent) {
    return Object.assign(document.createElement("span"), { className: css, textContent });
  }

  // One model in the list: a link to its page, or why there is none.
  function entry(model) {
    const usable = model.reason === undefined;
    const shown = document.createElement(usable ? "a" : "div");
    shown.append(span("name", model.name), span("about", usable ? described(model) : reasonOf(model)));
    if (usable) {
      shown.href = ddpm.addressOf(model);
      if (model.name === here) shown.ariaCurrent = "page";
      shown.addEventListener("click", (event) => {
        const same = !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
        if (same) ddpm.memory.leave(model.name); // else it opens in another tab of the browser
      });
    } else {
      shown.className = "unusable";
      shown.firstElementChild.after(span("state", say("models.unusable")));
    }
    const item = document.createElement("li");
    item.append(shown);
    return item;
  }

  // Brings the chip and the list below it to life.
  function list(element) {
    const box = element.querySelector(".models");
    if (!box) return;
    const [button, menu] = [box.querySelector("button"), box.querySelector("ul")];
    const links = () => [...menu.querySelectorAll("a")];
    const isOpen = () => !menu.hidden;

    function open(on) {
      if (on) menu.replaceChildren(...all.map(entry)); // now, since the addresses name the tab and t
      menu.hidden = !on;
      button.ariaExpanded = on;
    }

    function close() {
      open(false);
      button.focus();
    }

    // Arrow keys move along the links, as Tab does.
    function move(event) {
      if (!["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      if (!isOpen()) open(true);
      const at = links().indexOf(document.activeElement);
      const last = links().length - 1;
      const to = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last };
      links()[to[event.key]]?.focus();
    }

    button.addEventListener("click", () => open(!isOpen()));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && isOpen()) close();
      else move(event);
    });
    box.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !box.contains(event.relatedTarget)) open(false);
    });
    document.addEventListener("pointerdown", (event) => isOpen() && !box.contains(event.target) && open(false));
    ddpm.onLanguage(() => isOpen() && open(true));
  }

  // Says that the page shows another model than the address asks for, or than the first.
  function notice(element) {
    const wanted = new URLSearchParams(location.search).get("model") ?? all[0].name;
    const missing = all.find(({ name, reason }) => name === wanted && reason !== undefined);
    if (!missing || missing.name === here) return;
    const usable = all.filter(({ reason }) => reason === undefined);
    const embedded = usable.every(({ source }) => source === "page.embedded");
    const shown = document.createElement("p");
    shown.className = "notice";
    shown.role = "status";
    const fields = { name: missing.name, reason: reasonOf(missing), shown: here };
    Object.assign(shown.dataset, { text: embedded ? "notice.embedded" : "notice.other", ...fields });
    element.querySelector(".page-status").before(shown);
  }

  function models(element) {
    list(element);
    notice(element);
  }

  Object.assign(ddpm, { models });
})();
