// ?embed=1 shows the stage of one tab alone, for slides and other people's pages; below it stands a link to the page.
// Needs language.js, links.js, request.js. Gives embed: html(), what another page puts into itself.
(() => {
  const ROOM = 150; // pixels beside the stage: the margins of the page, the link, and lines that break elsewhere
  const root = document.documentElement;
  const query = new URLSearchParams(location.search);
  if (query.get("embed") === "1") root.dataset.embed = "";

  // The address of a page that shows only what is on screen. In a frame on a Space this is the server's own address,
  // since the Space's page cannot be shown in a frame.
  function address() {
    const url = new URL(ddpm.linkOf(new URL(location.pathname, location.href)));
    url.searchParams.set("embed", "1");
    return url.href;
  }

  // The address of the whole page that an embedded one belongs to.
  function whole() {
    const url = new URL(location.href);
    url.searchParams.delete("embed");
    return url.href;
  }

  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll('"', "&quot;");

  function html() {
    const stage = document.querySelector(`#tab-${ddpm.inFront()} .stage, #${ddpm.inFront()} .stage`);
    const height = Math.ceil((stage?.getBoundingClientRect().height ?? 600) + ROOM);
    const title = escaped(ddpm.say("page.title"));
    const frame = `src="${escaped(address())}" title="${title}" width="100%" height="${height}"`;
    return `<iframe ${frame} style="border: 0" loading="lazy"></iframe>`;
  }

  // Puts the link to the page below the tabs.
  function mount(after) {
    if (!("embed" in root.dataset)) return;
    const link = document.createElement("a");
    link.className = "embed-link";
    link.target = "_blank";
    link.rel = "noopener";
    link.dataset.text = "page.title";
    link.href = whole();
    link.addEventListener("pointerdown", () => {
      link.href = ddpm.linkOf(new URL(location.pathname, location.href)); // with what is on screen now
    });
    after.append(link);
    ddpm.translate(after);
  }

  ddpm.embed = { html, mount };
})();
