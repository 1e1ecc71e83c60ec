"use strict";
// What the script blocks of the page hold, unpacked: numbers at once, sheets of thumbnails when they are needed.
async function openStore() {
  const KEPT = 32; // decoded sheets held at a time, of about 4 MB each

  function stored(id) {
    const block = document.getElementById(id);
    const text = atob(block.textContent);
    block.remove(); // its text is needed no more
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes;
  }
  const unpacked = async (id) =>
    new Response(new Blob([stored(id)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const json = async (id) => JSON.parse(new TextDecoder().decode(await unpacked(id)));
  const kinds = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

  if (!("DecompressionStream" in window)) throw new Error("This page needs a browser of 2023 or later.");
  const meta = await json("meta");
  const [paths, points, neighbours, places, sizes] = await Promise.all([
    json("paths"),
    unpacked("points").then((data) => new Float32Array(data)),
    unpacked("neighbours").then((data) => new kinds[meta.row](data)),
    unpacked("places").then((data) => new Uint32Array(data)),
    unpacked("sizes").then((data) => new Uint8Array(data)),
  ]);
  const columns = await Promise.all(meta.columns.map(async (about, place) => {
    const data = await unpacked(`column-${place}`);
    return { ...about, values: about.kind === "number" ? new Float64Array(data) : new kinds[about.type](data) };
  }));

  const { kind, columns: across, rows: down, cell } = meta.atlas;
  const sheets = new Map(); // on their way or decoded, the latest used is the last
  const decoded = new Map();
  const blobs = new Map();
  function sheet(place) {
    if (!blobs.has(place)) blobs.set(place, new Blob([stored(`sheet-${place}`)], { type: `image/${kind}` }));
    const bitmap = sheets.get(place) ?? createImageBitmap(blobs.get(place)).then((made) => {
      decoded.set(place, made);
      return made;
    });
    sheets.delete(place);
    sheets.set(place, bitmap);
    if (sheets.size > KEPT) {
      const oldest = sheets.keys().next().value;
      sheets.delete(oldest);
      decoded.delete(oldest);
    }
    return bitmap;
  }
  function where(row) { // sheet, then left, top, width and height on it
    const spot = places[row] % (across * down);
    const [x, y] = [(spot % across) * cell[0], Math.floor(spot / across) * cell[1]];
    return [Math.floor(places[row] / (across * down)), x, y, sizes[2 * row], sizes[2 * row + 1]];
  }
  function piece(row, then) { // the same with the decoded sheet; null while it is on its way, then calls `then`
    const [place, ...area] = where(row);
    const bitmap = sheet(place);
    if (decoded.has(place)) return [decoded.get(place), ...area];
    bitmap.then(then);
    return null;
  }

  // Draw the image of a row on a canvas of its size; what has meanwhile been given another row stays as it is.
  async function paint(canvas, row) {
    canvas.dataset.row = row;
    const [place, x, y, width, height] = where(row);
    const bitmap = await sheet(place);
    if (canvas.dataset.row !== String(row)) return;
    canvas.width = width;
    canvas.height = height;
    canvas.classList.toggle("pixelated", Math.max(width, height) <= 48);
    canvas.getContext("2d").drawImage(bitmap, x, y, width, height, 0, 0, width, height);
    canvas.dataset.painted = row;
  }

  const said = (value) => {
    if (Number.isNaN(value)) return "none";
    if (Number.isInteger(value) && Math.abs(value) <= 2 ** 53) return whole(value);
    const small = value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e9);
    return small ? value.toExponential(3) : value.toLocaleString("en", { maximumSignificantDigits: 4 });
  };
  return {
    count: meta.count, paths, points, columns, duplicates: meta.duplicates, isolated: meta.isolated, paint, piece, said,
    isolation: meta.isolation, start: meta.start,
    together: (rows) => [...rows].sort((a, b) => places[a] - places[b]), // what lies together on the map shares sheets
    near: (row) => Array.from(neighbours.subarray(row * meta.k, (row + 1) * meta.k)),
    missing: (column, row) =>
      column.kind === "number" ? Number.isNaN(column.values[row]) : column.values[row] === column.names.length,
    text: (column, row) =>
      column.kind === "number" ? said(column.values[row]) : column.names[column.values[row]] ?? "none",
  };
}

const make = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  if (tag === "button") element.type = "button";
  return element;
};
const find = (name) => document.querySelector(name);
const whole = (value) => value.toLocaleString("en");
const plural = (number, one, many) => `${whole(number)} ${number === 1 ? one : many}`;
const images = (number) => plural(number, "image", "images");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim(); // of a variable
const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
