// The line of a tab that says how its question to the server fares, and what screen readers are told of it.
// Needs language.js. Gives line.
(() => {
  const REPEAT_MS = 20_000; // between two announcements of how a request goes on
  const CLEAR_MS = 5000;

  // One element announces all lines: a start, an end, and rarely what is between, since a line may change many times a
  // second.
  const announcer = document.createElement("div");
  announcer.className = "announcer";
  announcer.role = "status";
  const settle = () => document.body.append(announcer);
  if (document.body) settle();
  else document.addEventListener("DOMContentLoaded", settle);
  let clearing = 0;

  // The line in the element `status`. Fields of a text come from functions, so that it can be said again in another
  // language. tell: a start or an end; note: how it goes on; refuse: why the server refuses a request.
  function line(status) {
    let write = () => {};
    let announced = 0;

    function put(next, refused) {
      status.classList.toggle("refused", refused);
      write = next;
      write();
    }

    function announce() {
      if (!status.offsetParent) return; // it belongs to another tab
      announced = performance.now();
      announcer.replaceChildren(...[...status.childNodes].map((node) => node.cloneNode(true)));
      clearTimeout(clearing);
      clearing = setTimeout(() => announcer.replaceChildren(), CLEAR_MS);
    }

    const writing = (key, fields) => () => (key ? ddpm.setText(status, key, fields?.()) : status.replaceChildren());

    ddpm.onLanguage(() => write());
    return {
      tell(key, fields, refused = false) {
        put(writing(key, fields), refused);
        announce();
      },
      note(key, fields) {
        put(writing(key, fields), false);
        if (performance.now() - announced > REPEAT_MS) announce();
      },
      refuse({ key, fields }) {
        const writeReason = writing(key, () => ({
          ...fields,
          name: fields.name && ddpm.say(`field.${fields.name}`),
          value: fields.value ?? ddpm.say("refused.nothing"),
        }));
        put(() => {
          writeReason();
          if (fields.row) status.prepend(ddpm.say("rows.refused", fields));
        }, true);
        announce();
      },
      refused: () => status.classList.contains("refused"),
    };
  }

  Object.assign(ddpm, { line });
})();
