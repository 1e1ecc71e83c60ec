"use strict";
// Thumbnails on the map in place of points, once so few are in view that there is room for them.
function openPictures(canvas, box, store, map) {
  const ROOM = 2000; // px² that a point must have on average
  const SIDES = [26, 72]; // px, at least and at most
  const pen = canvas.getContext("2d");
  let on = true;
  let waiting = false;

  function inView(width, height) {
    const [[left, top], [right, low]] = [map.toScreen(0, 0), map.toScreen(1, 1)];
    const [stepX, stepY] = [right - left, low - top];
    const found = [];
    for (let row = 0; row < store.count; row += 1) {
      const [x, y] = [left + store.points[2 * row] * stepX, top + store.points[2 * row + 1] * stepY];
      if (x < -20 || y < -20 || x > width + 20 || y > height + 20 || !map.isShown(row)) continue;
      if (found.length * ROOM > width * height) return [];
      found.push([row, x, y]);
    }
    return found;
  }
  function draw() {
    waiting = false;
    const [width, height] = [box.clientWidth, box.clientHeight];
    const ratio = window.devicePixelRatio;
    canvas.width = width * ratio; // clears it
    canvas.height = height * ratio;
    pen.scale(ratio, ratio);
    if (!on) return;
    const found = inView(width, height);
    const side = Math.min(SIDES[1], Math.max(SIDES[0], 0.55 * Math.sqrt((width * height) / Math.max(1, found.length))));
    const marked = new Set(map.marked());
    const faint = marked.size > 0;
    found.sort((a, b) => marked.has(b[0]) - marked.has(a[0])); // where two overlap, a marked one is drawn
    const spots = [];
    for (const [row, x, y] of found) {
      if (spots.some((spot) => Math.max(Math.abs(spot[0] - x), Math.abs(spot[1] - y)) < 0.7 * side)) continue;
      const piece = store.piece(row, later);
      if (!piece) continue;
      spots.push([x, y]);
      const [bitmap, left, top, across, down] = piece;
      const scale = side / Math.max(across, down);
      const [w, h] = [across * scale, down * scale];
      pen.globalAlpha = faint && !marked.has(row) ? 0.3 : 1;
      pen.imageSmoothingEnabled = Math.max(across, down) > 48;
      pen.fillStyle = map.colourOf(row);
      pen.fillRect(x - w / 2 - 2, y - h / 2 - 2, w + 4, h + 4);
      pen.drawImage(bitmap, left, top, across, down, x - w / 2, y - h / 2, w, h);
    }
    canvas.dataset.drawn = spots.length;
  }
  function later() { // once a frame
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }
  return { later, toggle: (shown) => { on = shown; later(); } };
}
