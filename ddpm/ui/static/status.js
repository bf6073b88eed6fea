// The status line of a tab: progress of its request, also for screen readers.
// Needs language.js. Gives line.
(() => {
  const REPEAT_MS = 20_000; // between two announcements of the progress of a request
  const CLEAR_MS = 5000;

  // One element announces all lines: starts, ends, and now and then the progress, since a line may change many times a
  // second.
  const announcer = document.createElement("div");
  announcer.className = "announcer";
  announcer.role = "status";
  const settle = () => document.body.append(announcer);
  if (document.body) settle();
  else document.addEventListener("DOMContentLoaded", settle);
  let clearing = 0;
  let marked = 0; // lines that a marked field has named so far

  // Marks the field that a refusal is about, to the eye and to screen readers. Returns a function that takes the mark
  // away. `row`: which row the field is in, from 1, if there are rows. What is not a field, like a picture, is not marked.
  function mark(status, { name, row = 1 }) {
    const field = name && status.closest(".tab").querySelectorAll(`[name="${CSS.escape(name)}"]`)[row - 1];
    if (!field) return () => {};
    status.id ||= `refusal-${++marked}`;
    const marks = { "aria-invalid": "true", "aria-errormessage": status.id };
    for (const [attribute, value] of Object.entries(marks)) field.setAttribute(attribute, value);
    return () => {
      for (const attribute of Object.keys(marks)) field.removeAttribute(attribute);
    };
  }

  // Brings the line in the element `status` to life. Returns
  //   tell(key, fields, refused), for a start or an end; fields(): of the text, called again in another language;
  //   note(key, fields), for progress; refuse(message), for the server's reason to refuse a request, which also marks the
  //   field that it names; refused(): whether it shows a refusal; shown(): the key of the text that it shows, if any.
  function line(status) {
    let write = () => {};
    let unmark = () => {};
    let announced = 0;
    let shown = null;

    function put(key, next, refused) {
      shown = key;
      status.classList.toggle("refused", refused);
      unmark();
      unmark = () => {};
      write = next;
      write();
    }

    function announce() {
      if (!status.offsetParent) return; // the line is in a tab that is not in front
      announced = performance.now();
      announcer.replaceChildren(...[...status.childNodes].map((node) => node.cloneNode(true)));
      clearTimeout(clearing);
      clearing = setTimeout(() => announcer.replaceChildren(), CLEAR_MS);
    }

    const writing = (key, fields) => () => (key ? ddpm.setText(status, key, fields?.()) : status.replaceChildren());

    ddpm.onLanguage(() => write());
    return {
      tell(key, fields, refused = false) {
        put(key, writing(key, fields), refused);
        announce();
      },
      note(key, fields) {
        put(key, writing(key, fields), false);
        if (performance.now() - announced > REPEAT_MS) announce();
      },
      refuse({ key, fields }) {
        const writeReason = writing(key, () => ({
          ...fields,
          name: fields.name && ddpm.say(`field.${fields.name}`),
          value: fields.value ?? ddpm.say("refused.nothing"),
        }));
        const writeRefusal = () => {
          writeReason();
          if (fields.row) status.prepend(ddpm.say("rows.refused", fields));
        };
        put(key, writeRefusal, true);
        unmark = mark(status, fields);
        announce();
      },
      refused: () => status.classList.contains("refused"),
      shown: () => shown,
    };
  }

  Object.assign(ddpm, { line });
})();
