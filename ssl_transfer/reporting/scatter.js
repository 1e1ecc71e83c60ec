"use strict";
(() => {
  const figure = document.currentScript.parentElement;
  const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const readout = figure.querySelector(".readout");
  const buttons = [...figure.querySelectorAll(".legend button")];
  const maps = [...figure.querySelectorAll(".map")];
  const parts = maps.map((map) => ({ ring: map.querySelector(".ring"), thumb: map.querySelector(".thumb") }));
  const count = data.y.length;
  const hint = "Point at a dot, or press an arrow key on a map, to see its image in every map.";
  let only = null; // the isolated class
  let current = -1; // the image shown

  figure.classList.add("live");
  readout.textContent = hint;

  const share = (index, cells) => (cells > 1 ? (100 * index) / (cells - 1) : 0);
  const active = (index) => only === null || data.y[index] === only;

  function show(index) {
    current = index;
    parts.forEach(({ ring, thumb }, panel) => {
      ring.hidden = thumb.hidden = index < 0;
      if (index < 0) return;
      const x = data.xy[panel][2 * index] / 10;
      const y = data.xy[panel][2 * index + 1] / 10;
      ring.style.left = thumb.style.left = `${x}%`;
      ring.style.top = thumb.style.top = `${y}%`;
      thumb.classList.toggle("left", x > 60);
      thumb.classList.toggle("below", y < 35);
      const column = share(index % data.columns, data.columns);
      const row = share(Math.floor(index / data.columns), data.rows);
      thumb.style.backgroundSize = `${100 * data.columns}% ${100 * data.rows}%`;
      thumb.style.backgroundPosition = `${column}% ${row}%`;
    });
    if (index < 0) readout.textContent = hint;
    else {
      const name = data.names[data.y[index]];
      const label = name === undefined ? "no label" : `${data.what} ${name}`;
      readout.textContent = `Image ${index + 1} of ${count}: ${label}`;
    }
  }

  function nearest(panel, x, y, reach) {
    const xy = data.xy[panel];
    let best = -1;
    let least = reach * reach;
    for (let i = 0; i < count; i++) {
      const distance = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
      if (distance < least && active(i)) { least = distance; best = i; }
    }
    return best;
  }

  function step(panel, dx, dy) {
    const xy = data.xy[panel];
    if (current < 0) return nearest(panel, 500, 500, Infinity);
    let best = current;
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      const x = xy[2 * i] - xy[2 * current];
      const y = xy[2 * i + 1] - xy[2 * current + 1];
      const along = x * dx + y * dy;
      const aside = Math.abs(x * dy - y * dx);
      const cost = along + 3 * aside;
      if (along > 0 && cost < least && active(i)) { least = cost; best = i; }
    }
    return best;
  }

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  maps.forEach((map, panel) => {
    const point = (event) => {
      const box = map.getBoundingClientRect();
      const x = (1000 * (event.clientX - box.left)) / box.width;
      const y = (1000 * (event.clientY - box.top)) / box.height;
      const found = nearest(panel, x, y, 60);
      if (found !== current) show(found);
    };
    map.addEventListener("pointermove", point);
    map.addEventListener("pointerdown", point);
    map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(-1); });
    map.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return show(-1);
      if (!moves[event.key]) return;
      event.preventDefault();
      show(step(panel, ...moves[event.key]));
    });
  });

  buttons.forEach((button) => button.addEventListener("click", () => {
    const chosen = Number(button.dataset.class);
    only = only === chosen ? null : chosen;
    figure.classList.toggle("isolated", only !== null);
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.class) === only)));
    figure.querySelectorAll(".map [data-class]").forEach((part) =>
      part.classList.toggle("on", only !== null && Number(part.dataset.class) === only));
    show(-1);
  }));
})();
