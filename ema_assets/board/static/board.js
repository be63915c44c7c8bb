// Keeps a page up to date by asking for itself with its ETag, and gives it keys. What it shows comes from the server.
(() => {
  "use strict";
  const EVERY_MS = 5000;
  const root = document.documentElement;
  const by = (id) => document.getElementById(id);

  // --- theme ----------------------------------------------------------------------------------------------------------
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const tellThemed = () => document.dispatchEvent(new CustomEvent("themed"));
  const switchTheme = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a browser that keeps nothing */ }
    tellThemed();
  };
  system.addEventListener("change", tellThemed);

  // --- times: how long ago, beside what the server says ---------------------------------------------------------------
  const ago = (then) => {
    const s = Math.round((Date.now() - then) / 1000);
    if (s < 0) return "";
    if (s < 90) return `${s} s ago`;
    if (s < 5400) return `${Math.round(s / 60)} min ago`;
    return s < 129600 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} days ago`;
  };
  const sayTimes = () => {
    for (const each of document.querySelectorAll("time[data-ago]")) {
      if (!each.title) each.title = each.textContent;
      each.textContent = ago(Date.parse(each.dateTime)) || each.title;
    }
  };

  // --- up to date -----------------------------------------------------------------------------------------------------
  let tag = null;
  let isAsking = false;
  // A page without any number, or without what its drawing needs, has nothing that could be replaced: it is loaded again
  // when there is something.
  const toldBy = (page) => ["empty", "error"].find((id) => page.getElementById(id)) || null;
  const told = toldBy(document);
  const cellsOf = (part) => new Map([...part.querySelectorAll(".heat td a")].map((a) => [a.getAttribute("href"), a]));

  const takeOver = (fresh) => {
    const focused = document.activeElement && document.activeElement.getAttribute("href");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (next === null || next.innerHTML === part.dataset.was) continue;
      const before = part.id === "map" ? cellsOf(part) : new Map();
      const left = [...part.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
      part.dataset.was = next.innerHTML;
      part.className = next.className;
      part.hidden = next.hidden;
      part.replaceChildren(...document.adoptNode(next).childNodes);
      part.querySelectorAll(".scroll").forEach((each, n) => { each.scrollLeft = left[n] || 0; });
      for (const [href, cell] of cellsOf(part)) {
        const old = before.get(href);
        if (old && old.textContent !== cell.textContent) cell.classList.add("changed");
      }
    }
    if (focused && document.activeElement === document.body) {
      const again = document.querySelector(`a[href="${CSS.escape(focused)}"]`);
      if (again) again.focus({ preventScroll: true });
    }
    sayTimes();
  };

  const ask = async () => {
    if (isAsking || document.hidden) return;
    isAsking = true;
    try {
      const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      by("offline").hidden = true;
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (told !== toldBy(fresh)) location.reload();
        else takeOver(fresh);
      } else if (answer.status >= 500) by("offline").hidden = false;
      // What it shows was taken off the watchlist meanwhile: it would look fresh for ever.
      else if ((answer.status === 404 || answer.status === 400) && !told) location.reload();
      document.dispatchEvent(new CustomEvent("asked"));
    } catch {
      by("offline").hidden = false;
    } finally {
      isAsking = false;
    }
  };

  // --- search ---------------------------------------------------------------------------------------------------------
  const search = by("search");
  let hasSymbols = false;
  search.addEventListener("focus", async () => {
    if (hasSymbols) return;
    hasSymbols = true;
    try {
      const found = await (await fetch("/api/symbols?per_page=1000")).json();
      by("known").replaceChildren(...(found.rows || []).map((row) => {
        const option = document.createElement("option");
        option.value = row.symbol;
        return option;
      }));
    } catch { hasSymbols = false; }
  });

  // --- forms that need no button --------------------------------------------------------------------------------------
  const submit = (form) => {
    const chosen = [...form.querySelectorAll("[data-signal]:checked")].map((each) => each.value);
    if (form.elements.signals) form.elements.signals.value = chosen.join(",");
    for (const each of form.elements) if (each.name && !each.value) each.disabled = true;
    form.submit();
  };
  for (const form of document.querySelectorAll("form[data-auto]")) {
    form.addEventListener("change", () => submit(form));
    form.addEventListener("submit", (event) => { event.preventDefault(); submit(form); });
  }
  // A browser that goes back keeps a page as it was left. The forms are to say what the page shows.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[data-auto]")) {
      for (const each of form.elements) each.disabled = false;
      form.reset();
    }
  });

  // --- keys -----------------------------------------------------------------------------------------------------------
  const keys = by("keys");
  const PLACES = { h: "/", o: "/trades", c: "/crossovers", p: "/performance", f: "/freshness" };
  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  // A symbol may have fewer timeframes than others: the keys stay in the column, and go over cells that are empty.
  const moveOnMap = ([down, right]) => {
    const rows = [...document.querySelectorAll(".heat tbody tr")];
    const link = (at, column) => rows[at] && rows[at].cells[column] && rows[at].cells[column].querySelector("a");
    const here = document.activeElement.closest(".heat tbody td");
    let at = here ? rows.indexOf(here.parentElement) : 0;
    let column = here ? here.cellIndex : 0;
    const step = here ? [down, right] : [0, 1];
    do { at += step[0]; column += step[1]; } while (rows[at] && rows[at].cells[column] && !link(at, column));
    const cell = link(at, column);
    if (cell) cell.focus();
    return rows.length > 0;
  };
  const click = (link) => { if (link) link.click(); return Boolean(link); };
  const moveOnChart = ([down, right]) => {
    if (down) return click(document.querySelector(`#quote a[rel=${down > 0 ? "next" : "prev"}]`));
    const links = [...document.querySelectorAll(".toolbar .switch:first-child a")];
    const at = links.findIndex((each) => each.hasAttribute("aria-current"));
    return at >= 0 && click(links[at + right]);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
    const typed = event.target.closest && event.target.closest("input:not([type=checkbox]), select, textarea");
    if (typed) {
      if (event.key === "Escape") typed.blur();
      return;
    }
    const { key } = event;
    let done = true;
    if (key === "/") search.focus();
    else if (key === "?") keys.showModal();
    else if (key === "t") switchTheme();
    else if (key === "w" && by("why")) by("why").click();
    else if (PLACES[key]) location.href = PLACES[key];
    else if (STEPS[key]) done = by("drawn") ? moveOnChart(STEPS[key]) : moveOnMap(STEPS[key]);
    else if (/^[1-9]$/.test(key)) done = click(document.querySelectorAll(".toolbar .switch:first-child a")[key - 1]);
    else done = false;
    if (done) event.preventDefault();
  });

  by("theme").hidden = by("help").hidden = false;
  by("theme").addEventListener("click", switchTheme);
  by("help").addEventListener("click", () => keys.showModal());
  for (const part of document.querySelectorAll("[data-live]")) part.dataset.was = part.innerHTML;
  const here = document.querySelector(".top nav [aria-current]");
  if (here && here.offsetLeft > innerWidth / 2) here.parentElement.scrollLeft = here.offsetLeft - innerWidth / 3;
  sayTimes();
  setInterval(sayTimes, 1000);
  setInterval(ask, EVERY_MS);
  document.addEventListener("visibilitychange", ask);
})();
