// A symbol or a name in the code, hovered or focused, outlines the picture that it stands for. A picture outlines its
// symbols, but not itself, since that would disturb drawing on it.
// Needs nothing and gives nothing.
(() => {
  function point(event, on) {
    const source = event.target.closest?.("[data-of], [data-object]");
    const tab = source?.closest(".tab");
    if (!tab) return;
    const name = source.dataset.of ?? source.dataset.object;
    const pictures = source.dataset.of ? `, [data-object="${name}"]` : "";
    for (const el of tab.querySelectorAll(`[data-of="${name}"]${pictures}`)) el.classList.toggle("pointed", on);
  }

  for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, (event) => point(event, true));
  for (const kind of ["mouseout", "focusout"]) document.addEventListener(kind, (event) => point(event, false));
})();
