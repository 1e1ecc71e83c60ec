"use strict";
// The page: colours and legend, lists of images, search, keys. `window.explorer` lets a script do what a hand can.
(async () => {
  const root = document.documentElement;
  const box = find(".plot");
  const tip = find(".tip");
  const panels = Object.fromEntries([...document.querySelectorAll("[role=tabpanel]")].map((panel) => [panel.id, panel]));
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const waiting = find(".waiting");
  const status = find(".status");
  const say = (text) => { status.textContent = text; };

  let store;
  try {
    store = await openStore();
  } catch (problem) {
    waiting.textContent = problem.message;
    return;
  }
  let selection = [];
  let found = null; // what the selection was searched by
  let matches = []; // rows whose path contains what is searched, hidden ones too
  let picked = -1;
  let trail = []; // images picked before
  let tab = "selection";
  let group = -1; // of duplicates

  // ---- map
  let hovered = -1;
  const tell = {
    hover: (row) => {
      hovered = row;
      point(row);
      if (row < 0) hideTip();
      else showTip(row);
    },
    walk: (row) => { map.point(row); showTip(row); say(`${store.paths[row]}, ${described(row)}`); },
    pick: (row) => pick(row),
    drag: (rows, event) => choose(combined(selection, rows, event)),
    moved: () => { legend?.placeNames(); pictures?.later(); if (!tip.hidden) placeTip(Number(tip.dataset.row)); },
  };
  let map = noMap();
  let pictures = null;
  let legend = null;
  try {
    map = await openMap(box, store, tell);
    pictures = openPictures(find(".pictures"), box, store, map);
  } catch (problem) {
    box.hidden = true;
    find(".tools").hidden = true;
    const note = find(".no-map");
    note.textContent = "The map needs WebGL, which this browser lacks or has switched off. Lists, search and export work without it.";
    note.hidden = false;
    console.error(problem);
  }

  // ---- the image under the pointer
  const described = (row) => store.columns.map((column) => `${column.name} ${store.text(column, row)}`).join(", ");
  function showTip(row) {
    tip.dataset.row = row;
    store.paint(tip.querySelector("canvas"), row);
    tip.querySelector(".words").replaceChildren(make("p", "path", store.paths[row]), facts(row, store));
    tip.hidden = false;
    placeTip(row);
  }
  function hideTip() {
    tip.hidden = true;
  }
  function placeTip(row) {
    const [left, top] = map.place(row);
    const frame = box.getBoundingClientRect();
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    const x = left + 16 + width <= frame.width ? left + 16 : Math.max(4, left - 16 - width);
    const y = Math.min(Math.max(4, top - height / 2), Math.max(4, frame.height - height - 4));
    tip.style.transform = `translate(${x}px, ${y}px)`;
  }

  // ---- colours
  legend = openLegend(store, map, say, () => { keepShown(); list(); });
  const column = legend.column;

  // ---- lists
  const point = (row) => { map.point(row >= 0 ? row : tab === "near" ? picked : -1); };
  const grid = (rows, caption) => thumbnailGrid(rows, store, { pick, point }, caption);
  const makers = {
    selection: selectionPanel, near: nearPanel, duplicates: duplicatePanel, outliers: outlierPanel,
  };
  function list() { // draw the panel that shows, and mark its images on the map
    makers[tab]?.();
    map.mark({
      selection, near: picked >= 0 ? [picked, ...store.near(picked)] : [],
      duplicates: group >= 0 ? store.duplicates[group] : [], outliers: store.isolated,
    }[tab] ?? selection);
    map.point(tab === "near" ? picked : -1);
  }
  function open(name) {
    tab = name;
    tabs.forEach((button) => {
      const on = button.id === `tab-${name}`;
      button.setAttribute("aria-selected", String(on));
      button.tabIndex = on ? 0 : -1;
      if (on) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    Object.values(panels).forEach((panel) => { panel.hidden = panel.id !== name; });
    list();
  }
  const title = (panel, text, ...more) => panel.replaceChildren(make("h2", "", text), ...more);

  const shownOf = (rows) => [...new Set(rows)].filter(map.isShown).sort((a, b) => a - b);
  function select(rows, show = true) { // what the legend hides belongs to no selection
    selection = shownOf(rows);
    say(selection.length ? `${images(selection.length)} selected` : "Nothing selected");
    if (show || tab === "selection") open("selection");
  }
  function choose(rows) { // by hand, no longer what was searched
    found = null;
    select(rows);
  }
  function keepShown() { // after the legend hid or showed images; what was searched comes back, what was drawn does not
    selection = shownOf(found === null ? selection : matches);
    tellFound();
  }
  function composition() { // what the selection is made of, by the column that colours the map
    const shown = column();
    if (shown?.kind !== "text") return "";
    const tally = new Map();
    selection.forEach((row) => tally.set(shown.values[row], (tally.get(shown.values[row]) ?? 0) + 1));
    const parts = [...tally].sort((a, b) => b[1] - a[1]);
    const told = parts.slice(0, 6).map(([code, number]) => `${shown.names[code] ?? "none"} (${whole(number)})`);
    if (parts.length > 6) told.push(`${whole(parts.length - 6)} others`);
    return `${shown.name}: ${told.join(", ")}`;
  }
  function selectionPanel() {
    const panel = panels.selection;
    if (!selection.length) {
      const drag = "Draw a box or a lasso on the map, or search by path. With Shift held, dragging always draws a lasso; with Ctrl (⌘ on a Mac) as well it adds to what is selected, with Alt it takes away.";
      return title(panel, found === null ? "No image selected" : searched(), make("p", "quiet", drag));
    }
    const about = composition();
    return title(
      panel,
      found === null ? `${images(selection.length)} selected` : searched(),
      make("p", "quiet", about),
      actions(
        ["Download CSV", () => download(exportCsv())], ["Copy paths", copyPaths],
        ["Zoom to", () => map.zoomTo(selection)], ["Clear", () => clear()],
      ),
      grid(store.together(selection)),
    );
  }
  function nearPanel() {
    if (picked < 0) {
      return title(panels.near, "No image chosen", make("p", "quiet", "Click a point or an image to see the images nearest to it in feature space; click one of them to walk on."));
    }
    const canvas = make("canvas", "large");
    store.paint(canvas, picked);
    const near = store.near(picked);
    const figure = make("div", "picked");
    const words = make("div", "words");
    words.append(make("p", "path", store.paths[picked]), facts(picked, store));
    figure.append(canvas, words);
    return title(
      panels.near, "Image", figure,
      actions(
        ["Back", () => { const last = trail.pop(); picked = -1; pick(last); }, !trail.length],
        ["Show on map", () => map.zoomTo([picked], 0.12)],
        ["Select these", () => choose([picked, ...near])],
      ),
      make("h3", "", "Nearest in feature space"), grid(near, (_, place) => String(place + 1)),
    );
  }
  const GROUPS = 40;
  let groupsDrawn = GROUPS;
  function duplicatePanel() {
    const all = store.duplicates;
    if (!all.length) return title(panels.duplicates, "No near-duplicates");
    const extra = shownOf(all.flatMap((rows) => rows.slice(1)));
    const blocks = all.slice(0, groupsDrawn).map((rows, place) => {
      const block = make("section", "group");
      const button = make("button", "heading", `Group ${whole(place + 1)}: ${images(rows.length)}`);
      button.setAttribute("aria-pressed", String(place === group));
      button.addEventListener("click", () => {
        group = place;
        panels.duplicates.querySelectorAll(".heading").forEach((other, i) => other.setAttribute("aria-pressed", String(i === place)));
        map.mark(rows);
        map.zoomTo(rows, 0.12);
      });
      block.append(button, grid(rows));
      return block;
    });
    const more = make("button", "more", `${whole(Math.min(GROUPS, all.length - groupsDrawn))} more of ${whole(all.length - groupsDrawn)}`);
    more.hidden = all.length <= groupsDrawn;
    more.addEventListener("click", () => { groupsDrawn += GROUPS; duplicatePanel(); });
    return title(
      panels.duplicates, plural(all.length, "group of near-duplicates", "groups of near-duplicates"),
      actions([`Select all but the first of each (${whole(extra.length)})`, () => choose(extra), !extra.length]),
      ...blocks, more,
    );
  }
  function outlierPanel() {
    const rows = store.isolated;
    if (!rows.length) return title(panels.outliers, "Isolation was not measured");
    const shown = shownOf(rows);
    const value = new Map(rows.map((row, place) => [row, store.isolation[place]]));
    return title(
      panels.outliers, "Most isolated images",
      make("p", "quiet", "Farthest from all others in feature space, the farthest first; the number says how far."),
      actions([`Select these ${whole(shown.length)}`, () => choose(shown), !shown.length]),
      grid(rows, (row) => value.get(row).toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 })),
    );
  }
  function pick(row) {
    if (picked >= 0 && picked !== row) trail = [...trail, picked].slice(-100);
    picked = row;
    open("near");
    panels.near.scrollTop = 0;
    map.reveal(row);
    say(`${store.paths[row]}, ${described(row)}`);
  }
  tabs.forEach((button, place) => {
    button.addEventListener("click", () => open(button.id.slice(4)));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      open(next.id.slice(4));
      next.focus();
    });
  });

  // ---- export
  const exportCsv = (rows = selection) => csvOf(rows, store);
  function download(text) {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = "selection.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`${images(selection.length)} exported`);
  }
  async function copyPaths(button) {
    const text = selection.map((row) => store.paths[row]).join("\n");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea");
      area.value = text;
      button.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = "Copied";
    say(`${plural(selection.length, "path", "paths")} copied`);
    setTimeout(() => { button.textContent = "Copy paths"; }, 1600);
  }

  // ---- search
  const search = find("#search");
  const foundBox = find(".found");
  let lower = null;
  function hiddenMatches() { // what the legend hides of them, in words
    const hidden = matches.filter((row) => !map.isShown(row)).length;
    if (hidden < matches.length) return hidden ? `, ${whole(hidden)} hidden` : "";
    return hidden ? `, ${hidden > 1 ? "all " : ""}hidden by the legend` : "";
  }
  const searched = () =>
    `${matches.length ? plural(matches.length, "path contains", "paths contain") : "No path contains"} “${found}”${hiddenMatches()}`;
  function tellFound() {
    foundBox.textContent = search.value ? `${whole(matches.length)} found${hiddenMatches()}` : "";
  }
  function seek() {
    const part = search.value.toLowerCase();
    if (!part) {
      matches = [];
      tellFound();
      if (found !== null) { found = null; select([], false); }
      return;
    }
    lower ??= store.paths.map((path) => path.toLowerCase());
    matches = [];
    lower.forEach((path, row) => { if (path.includes(part)) matches.push(row); });
    found = search.value;
    select(matches);
    tellFound();
  }
  let pause = 0;
  search.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(seek, 120); });
  find(".search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pause);
    seek();
    if (selection.length) map.zoomTo(selection, 0.12);
  });
  function clear() {
    search.value = "";
    found = null;
    matches = [];
    tellFound();
    hideTip();
    map.point(-1);
    useMode("move");
    select([], tab === "selection");
  }

  // ---- tools, theme, keys
  const modes = [...document.querySelectorAll("[data-mode]")].filter((button) => button !== box);
  function useMode(mode) {
    map.use(mode);
    modes.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
  }
  modes.forEach((button) => button.addEventListener("click", () => useMode(button.dataset.mode)));
  const zooms = { in: () => map.zoom(1.5), out: () => map.zoom(1 / 1.5), fit: () => map.everything() };
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", zooms[button.dataset.zoom]));
  const pictureButton = find("#pictures");
  function togglePictures() {
    const on = pictureButton.getAttribute("aria-pressed") !== "true";
    pictureButton.setAttribute("aria-pressed", String(on));
    pictures?.toggle(on);
  }
  pictureButton.addEventListener("click", togglePictures);
  const theme = find("#theme");
  const nameTheme = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `${theme.textContent} colours`);
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
    legend.recolour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { nameTheme(); legend.recolour(); });
  const dialog = find("dialog");
  find("#help").addEventListener("click", () => dialog.showModal());
  const keys = {
    "/": () => { search.focus(); search.select(); }, "?": () => dialog.showModal(), Escape: clear, 0: zooms.fit, "+": zooms.in,
    "=": zooms.in, "-": zooms.out, l: () => useMode("lasso"), b: () => useMode("box"), m: () => useMode("move"), n: legend.toggleNames,
    p: togglePictures,
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const typing = event.target.closest?.("input, select, textarea");
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act || (typing && event.key !== "Escape")) return;
    event.preventDefault();
    act();
    if (typing && event.key === "Escape") box.focus();
  });
  box.addEventListener("keydown", (event) => {
    const row = map.current();
    if (row < 0 || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    if (event.key === "Enter") return pick(row);
    choose(selection.includes(row) ? selection.filter((other) => other !== row) : [...selection, row]);
    map.point(row);
  });
  box.addEventListener("blur", hideTip);

  // ---- opening
  for (const [name, number] of [["duplicates", store.duplicates.length], ["outliers", store.isolated.length]]) {
    find(`#tab-${name}`).hidden = !number;
    if (!number) tabs.splice(tabs.indexOf(find(`#tab-${name}`)), 1);
  }
  nameTheme();
  map.fit();
  await legend.recolour();
  map.fit();
  open("selection");
  waiting.hidden = true;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  window.explorer = {
    select: choose,
    pick, open, exportCsv, isolate: legend.isolate, zoom: map.zoom, pan: map.pan, fit: map.fit,
    hover: (row) => (row < 0 ? hideTip() : tell.walk(row)),
    colour: legend.colour,
    theme: (name) => { root.dataset.theme = name; nameTheme(); return legend.recolour(); },
    place: map.place, settled: map.settled, opened: performance.now(),
    state: () => ({
      count: store.count, selection, picked, hovered, tab, colour: column()?.name, mode: map.mode(), view: map.view(), draws: map.draws(),
      marked: map.marked(), isolated: legend.chosen(),
    }),
  };
  root.dataset.ready = "true";
})();
