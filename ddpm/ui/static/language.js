// Text in the visitor's language, the TeX inside it, and the switch between languages.
// Needs memory.js, gradio.js (katex). Gives say, setText, translate, language, isLanguage, setLanguage, onLanguage.
(() => {
  const { page } = ddpm;
  const root = document.documentElement;
  const query = new URLSearchParams(location.search);
  const known = (tag) => page.languages.find((language) => (tag || "").toLowerCase().startsWith(language));
  const { recalled, keep } = ddpm.memory;
  let language = known(recalled.lang) || known(query.get("lang")) || known(navigator.language) || page.languages[0];
  keep("lang", () => language);
  const listeners = new Set();

  // ---------------------------------------------------------------- text

  // The text of a key, with {name} replaced by fields.name, and {name?step:steps} by the first word if that is 1, else
  // by the second. A replacement function keeps "$&" in a value as it is.
  const ONE_OR_MORE = /\{(\w+)\?([^{}:]*):([^{}]*)\}/g;
  function say(key, fields = {}) {
    let string = page.text[language][key] ?? key;
    string = string.replace(ONE_OR_MORE, (_, name, one, more) => (String(fields[name]) === "1" ? one : more));
    for (const [name, value] of Object.entries(fields)) string = string.replaceAll(`{${name}}`, () => value);
    return string;
  }

  // Stand for a literal dollar sign and bracket in a field, such as a file's name.
  const DOLLAR = "\ue000";
  const BRACKET = "\ue001";
  const literal = (value) => String(value).replaceAll("$", DOLLAR).replaceAll("[", BRACKET);
  const restored = (string) => string.replaceAll(DOLLAR, "$").replaceAll(BRACKET, "[");

  const TEX_AND_PUNCTUATION = /(\$[^$]*\$[.,;:?!)\u3002\uff0c\uff1b\uff1a\uff1f\uff09]*)/;

  const WORDS_OF = /(\[[^\]]+\]\(\w+\))/;

  // Text in which $...$ is TeX, and [words](name) point at the picture of that name (outlines.js), as a list of nodes.
  function nodes(string) {
    return string.split(WORDS_OF).flatMap((part) => {
      const [, words, name] = part.match(/^\[([^\]]+)\]\((\w+)\)$/) ?? [];
      if (words === undefined) return nodesOfTex(part);
      const pointing = Object.assign(document.createElement("span"), { tabIndex: 0 });
      pointing.dataset.of = name;
      pointing.append(...nodesOfTex(words));
      return pointing;
    });
  }

  // A symbol and the punctuation after it stay on one line.
  function nodesOfTex(string) {
    return string.split(TEX_AND_PUNCTUATION).map((part) => {
      const [, tex, after] = part.match(/^\$(.*)\$(.*)$/) ?? [];
      if (tex === undefined) return document.createTextNode(restored(part));
      const symbol = document.createElement("span");
      symbol.className = "tex";
      renderTex(symbol, tex);
      const together = document.createElement("span");
      together.className = "together";
      together.append(symbol, after);
      return together;
    });
  }

  // Fills an element with the text of a key.
  function setText(element, key, fields = {}) {
    const plain = Object.entries(fields).map(([name, value]) => [name, literal(value)]);
    element.replaceChildren(...nodes(say(key, Object.fromEntries(plain))));
  }

  function paragraphs(string) {
    return string.split("||").map((part) => {
      const paragraph = document.createElement("p");
      paragraph.append(...nodes(part));
      return paragraph;
    });
  }

  // Fills every element below `element` that names a key. Called for each new tab and when the language changes.
  function translate(element) {
    for (const el of element.querySelectorAll("[data-text]")) setText(el, el.dataset.text, el.dataset);
    for (const el of element.querySelectorAll("[data-label]")) {
      el.setAttribute("aria-label", say(el.dataset.label));
      if (el.matches("button, [title]")) el.title = say(el.dataset.label);
    }
    for (const el of element.querySelectorAll("[data-paragraphs]")) {
      el.replaceChildren(...paragraphs(say(el.dataset.paragraphs)));
    }
    for (const el of element.querySelectorAll("[data-tex]")) renderTex(el, page.equations[el.dataset.tex]);
  }

  // ---------------------------------------------------------------- TeX

  let katex = null;
  const unrendered = new Map(); // element -> TeX that waits until KaTeX is loaded
  ddpm.katex.then((loaded) => {
    katex = loaded;
    for (const [element, tex] of unrendered) renderTex(element, tex);
    unrendered.clear();
  });

  function renderTex(element, tex) {
    if (!katex) return unrendered.set(element, tex);
    // \htmlData links a symbol to its picture. The equations are strings of this page, so KaTeX may trust it.
    const trust = (context) => context.command === "\\htmlData";
    katex.render(tex, element, { trust, strict: false, throwOnError: false });
  }

  // ---------------------------------------------------------------- the switch

  const tag = () => (language === "zh" ? "zh-CN" : language);

  function setLanguage(next) {
    language = next;
    const url = new URL(location.href);
    url.searchParams.set("lang", next);
    history.replaceState(null, "", url); // a reload and a copied link keep the language
    root.lang = tag();
    document.title = say("page.title");
    translate(document.body);
    for (const listener of listeners) listener();
  }

  root.lang = tag();
  Object.assign(ddpm, {
    say,
    setText,
    translate,
    language: () => language,
    isLanguage: (tag) => Boolean(known(tag)),
    setLanguage,
    onLanguage: (listener) => listeners.add(listener),
  });
})();
