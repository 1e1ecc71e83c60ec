"use strict";
// Grids of thumbnails in the side panel. `tell` holds pick(row) and point(row | -1).
const CHUNK = 120; // thumbnails drawn at a time

function thumbnailGrid(rows, store, tell, caption = () => "") {
  const root = make("div", "images");
  const list = make("ul", "grid");
  const more = make("button", "more");
  let drawn = 0;

  function draw(most) {
    for (; drawn < Math.min(most, rows.length); drawn += 1) {
      const row = rows[drawn];
      const item = make("li");
      const button = make("button", "thumb");
      button.dataset.row = row;
      button.dataset.place = drawn;
      button.tabIndex = drawn ? -1 : 0;
      button.setAttribute("aria-label", store.paths[row]);
      button.title = store.paths[row];
      const canvas = make("canvas");
      button.append(canvas);
      store.paint(canvas, row);
      item.append(button);
      const words = caption(row, drawn);
      if (words) item.append(make("span", "words", words));
      list.append(item);
    }
    const left = rows.length - drawn;
    more.hidden = left <= 0;
    more.textContent = `${whole(Math.min(left, CHUNK))} more of ${whole(left)}`;
  }
  const at = (event) => event.target.closest?.(".thumb");
  const pointed = (event) => { const button = at(event); if (button) tell.point(Number(button.dataset.row)); };
  list.addEventListener("click", (event) => { const button = at(event); if (button) tell.pick(Number(button.dataset.row)); });
  list.addEventListener("pointerover", pointed);
  list.addEventListener("focusin", pointed);
  list.addEventListener("pointerleave", () => tell.point(-1));
  list.addEventListener("focusout", () => tell.point(-1));
  list.addEventListener("keydown", (event) => {
    const button = at(event);
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    const across = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const place = Number(button.dataset.place);
    const goal = {
      ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - across, ArrowDown: place + across,
      Home: 0, End: drawn - 1,
    }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    if (goal < 0 || goal >= rows.length) return;
    draw(goal >= drawn ? drawn + CHUNK : drawn);
    const next = list.children[goal].firstChild;
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  more.addEventListener("click", () => { const first = drawn; draw(drawn + CHUNK); list.children[first].firstChild.focus(); });
  draw(CHUNK);
  root.append(list, more);
  return root;
}

// The values of an image, one line each.
function facts(row, store) {
  const list = make("dl", "facts");
  store.columns.forEach((column) => {
    const line = make("div");
    line.append(make("dt", "", column.name), make("dd", "", store.text(column, row)));
    list.append(line);
  });
  return list;
}

const actions = (...entries) => { // buttons in a row: [name, what it does, disabled]
  const row = make("div", "actions");
  entries.forEach(([name, act, disabled]) => {
    const button = make("button", "", name);
    button.disabled = Boolean(disabled);
    button.addEventListener("click", () => act(button));
    row.append(button);
  });
  return row;
};

// Rows as a table. A path stands as it is, whatever it begins with: a script must find the file. Numbers do too. Any other
// text that a spreadsheet would take for a formula gets an apostrophe before it.
function csvOf(rows, store) {
  const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const guarded = (text) => cell(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
  const value = (column, row) => {
    if (store.missing(column, row)) return "";
    if (column.kind === "number") return String(column.values[row]);
    const name = column.names[column.values[row]];
    if (column.integers) return name === "noise" ? "-1" : name;
    return guarded(name);
  };
  const head = ["path", ...store.columns.map((column) => guarded(column.name))].join(",");
  const lines = rows.map((row) => [cell(store.paths[row]), ...store.columns.map((c) => value(c, row))].join(","));
  return `${[head, ...lines].join("\r\n")}\r\n`;
}
