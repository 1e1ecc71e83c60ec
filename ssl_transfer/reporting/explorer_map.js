"use strict";
// The map: points on the graphics card (regl-scatterplot), and how mouse, fingers and keys reach them.
// `tell` holds what the page does: hover(row | -1), pick(row), drag(rows it went round, event at its end), moved().
async function openMap(box, store, tell) {
  const { count, points } = store;
  const canvas = box.querySelector(".points"); // of the plot, for its events
  const drawn = box.querySelector(".drawn"); // what it draws
  const ring = box.querySelector(".ring");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const x = (row) => points[2 * row];
  const y = (row) => points[2 * row + 1];
  const REACH = 12; // px around the pointer in which a point is found
  let visible = null; // Uint8Array, or null for all
  let marked = [];
  let current = -1;

  const probe = document.createElement("canvas").getContext("webgl");
  if (!probe || !probe.getExtension("OES_texture_float")) throw new Error("no WebGL");
  probe.getExtension("WEBGL_lose_context")?.loseContext();

  // ---- drawing
  const base = Math.max(2.2, Math.min(9, 26 / count ** 0.195)); // px: 6 at 1,797 points, 3 at 60,000
  const hidden = document.createElement("canvas"); // as large as the map; points are smooth without antialiasing
  hidden.getContext("webgl", { antialias: false, depth: false });
  const renderer = createScatterplot.createRenderer({ canvas: hidden });
  renderer.resize(box.clientWidth, box.clientHeight);
  let drag = null; // a lasso or a box
  addEventListener("blur", (event) => { if (drag) event.stopImmediatePropagation(); }); // the plot would stumble over it
  const plot = createScatterplot.default({
    renderer, canvas, width: box.clientWidth, height: box.clientHeight, pointSize: base, pointSizeSelected: 2, pointOutlineWidth: 1.5,
    colorBy: "valueA", opacityBy: "density", opacityByDensityFill: 0.3, opacityInactiveScale: 0.3,
    lassoMinDelay: 0, lassoMinDist: 1, lassoLineWidth: 2, spatialIndexUseWorker: false,
    deselectOnDblClick: false, deselectOnEscape: false,
    actionKeyMap: { lasso: "shift", merge: APPLE ? "cmd" : "ctrl", remove: "alt" },
  });
  const camera = plot.get("camera");
  camera.setScaleBounds([0.2, 20000]);
  let [width, height] = [box.clientWidth, box.clientHeight];

  // Where drawing takes long (no graphics card), the last picture is moved along with the view in between.
  const SLOW = 45; // ms
  const render = renderer.render;
  const last = { view: null, at: 0, cost: 0, count: 0 };
  let due = 0;
  renderer.render = (paint, target) => {
    const now = performance.now();
    const wait = Math.min(300, 2 * last.cost) - (now - last.at);
    const view = Array.from(camera.view);
    const moved = last.view && last.view.some((value, place) => value !== view[place]);
    if (moved && last.cost > SLOW && wait > 0) {
      shift(view);
      if (!due) due = setTimeout(() => { due = 0; plot.redraw(); }, wait);
      return;
    }
    if (drawn.width !== target.width || drawn.height !== target.height) {
      [drawn.width, drawn.height] = [target.width, target.height];
      [drawn.style.width, drawn.style.height] = [`${width}px`, `${height}px`];
    }
    render(paint, drawn);
    drawn.style.transform = "";
    Object.assign(last, { view, at: now, count: last.count + 1 });
    requestAnimationFrame(() => requestAnimationFrame((then) => {
      last.cost = 0.6 * last.cost + 0.4 * (then - now); // two frames of 17 ms at least
    }));
  };
  function shift(view) { // from the view that was drawn to another one
    const scale = view[0] / last.view[0];
    const left = (width * (1 - scale) + height * (view[12] - scale * last.view[12])) / 2;
    const top = (height * (1 - scale) - height * (view[13] - scale * last.view[13])) / 2;
    drawn.style.transform = `matrix(${scale}, 0, 0, ${scale}, ${left}, ${top})`;
  }
  let queue = Promise.resolve(); // one drawing after the other
  let codes = new Uint8Array(count);
  let palette = ["#888888"];
  let ordered; // the mask that the order of drawing was made for

  function draw() { // the points that are not shown stay as faint context below the others
    queue = queue.then(async () => {
      const faint = palette.length;
      const colours = [...palette, css("--line")];
      plot.set({
        pointColor: colours, pointColorActive: colours, pointColorHover: colours, backgroundColor: css("--paper"),
        lassoColor: css("--accent"),
      });
      const quads = Array.from({ length: count }, (_, row) => [x(row), y(row), isShown(row) ? codes[row] : faint, 0]);
      const spatialIndex = plot.get("isPointsDrawn") ? plot.get("spatialIndex") : undefined;
      await plot.draw(quads, { zDataType: "categorical", spatialIndex });
      if (ordered !== visible) {
        plot.set({ pointOrder: visible ? [...order.filter((row) => !isShown(row)), ...order.filter(isShown)] : order });
        ordered = visible;
      }
      mark(marked);
    });
    return queue;
  }
  function colour(newCodes, newPalette) { // a place in the palette for each point
    [codes, palette] = [newCodes, newPalette];
    return draw();
  }
  function show(mask) { // the points where the mask is 1; null shows all
    visible = mask;
    return draw();
  }
  const isShown = (row) => !visible || visible[row] === 1;
  const shownRows = () => order.filter(isShown);
  function shuffled() {
    const order = Array.from({ length: count }, (_, row) => row);
    let seed = 1;
    for (let i = count - 1; i > 0; i -= 1) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const j = Math.floor((seed / 2 ** 32) * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
  const order = shuffled(); // of drawing: no category hides another for coming later
  function mark(rows) { // outlined, the others faint
    marked = rows;
    const drawn = rows.filter(isShown);
    if (drawn.length && drawn.length < count) plot.select(drawn, { preventEvent: true });
    else plot.deselect({ preventEvent: true });
    tell.moved();
  }

  // ---- where things are
  const toScreen = (px, py) => {
    const view = camera.view;
    return [(width + height * (px * view[0] + view[12])) / 2, (height * (1 - (py * view[5] + view[13]))) / 2];
  };
  const toData = (left, top) => {
    const view = camera.view;
    return [((2 * left - width) / height - view[12]) / view[0], (1 - (2 * top) / height - view[13]) / view[5]];
  };
  const place = (row) => toScreen(x(row), y(row));
  const inView = (row) => {
    const [left, top] = place(row);
    return left > 0 && top > 0 && left < width && top < height;
  };
  function nearest(left, top, reach = Infinity, direction = null) { // in px; direction: only the points that lie there
    const [[left0, top0], [left1, top1]] = [toScreen(0, 0), toScreen(1, 1)];
    const [stepX, stepY] = [left1 - left0, top1 - top0];
    let [best, least] = [-1, reach * reach];
    for (let row = 0; row < count; row += 1) {
      const [dx, dy] = [left0 + points[2 * row] * stepX - left, top0 + points[2 * row + 1] * stepY - top];
      let distance = dx * dx + dy * dy;
      if (direction) {
        const along = dx * direction[0] + dy * direction[1];
        const aside = Math.abs(dx * direction[1] - dy * direction[0]);
        if (row === current || along <= 0 || aside > along) continue;
        distance += 2 * aside * aside;
      }
      if (distance < least && isShown(row)) [best, least] = [row, distance];
    }
    return best;
  }
  function point(row) { // set the ring on a row; -1 takes it away
    current = row;
    ring.hidden = row < 0;
    follow();
  }
  function follow() {
    if (current >= 0) {
      const [left, top] = place(current);
      ring.style.transform = `translate(${left}px, ${top}px)`;
      ring.hidden = !inView(current);
    }
    tell.moved();
  }

  // ---- moving
  const gently = (duration) => (calm.matches ? {} : { transition: true, transitionDuration: duration });
  function zoomTo(rows, smallest = 0.02, smooth = true) { // rows in view with a margin; smallest: side of the view
    let [left, low, right, high] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const row of rows) {
      left = Math.min(left, x(row));
      right = Math.max(right, x(row));
      low = Math.min(low, y(row));
      high = Math.max(high, y(row));
    }
    if (left > right) return;
    const across = Math.max(smallest, (right - left) * 1.12);
    const up = Math.max(smallest, (high - low) * 1.12);
    const area = { x: (left + right - across) / 2, y: (low + high - up) / 2, width: across, height: up };
    plot.zoomToArea(area, smooth ? gently(350) : {});
  }
  const everything = () => zoomTo(shownRows());
  function zoom(factor, at = [width / 2, height / 2]) {
    camera.zoom(factor, [(2 * at[0] - width) / height, 1 - (2 * at[1]) / height]);
    plot.redraw();
  }
  function pan(dx, dy) { // px
    camera.pan([(2 * dx) / height, (-2 * dy) / height]);
    plot.redraw();
  }
  function reveal(row) {
    if (inView(row)) return;
    const [left, top] = place(row);
    pan(width / 2 - left, height / 2 - top);
  }

  // ---- mouse
  let mode = "move";
  function use(newMode) {
    mode = newMode;
    plot.set({ mouseMode: mode === "move" ? "panZoom" : "lasso", lassoType: mode === "box" ? "rectangle" : "freeform" });
    box.dataset.mode = mode;
  }
  let down = null;
  const spot = (event) => {
    const frame = box.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  const fingers = new Map(); // on the map, by their pointer's number
  let hovered = -1;
  function hover(row) {
    if (row !== hovered) tell.hover(row);
    hovered = row;
  }
  canvas.addEventListener("mousemove", (event) => { if (!down) hover(nearest(...spot(event), REACH)); });
  canvas.addEventListener("mouseleave", () => hover(-1));
  plot.subscribe("view", follow);
  canvas.addEventListener("mousedown", (event) => {
    down = spot(event);
    if (event.buttons === 1 && (mode !== "move" || event.shiftKey)) drag = new Drag(down, mode === "box", toData);
    if (event.shiftKey && mode === "move") plot.set({ lassoType: "freeform" });
    hover(-1);
  });
  addEventListener("pointermove", (event) => { if (drag && event.buttons & 1 && fingers.size < 2) drag.extend(event, spot); });
  addEventListener("mouseup", (event) => {
    setTimeout(() => { down = null; });
    if (!drag) return;
    const ended = drag;
    drag = null;
    if (fingers.size < 2) ended.add(spot(event));
    if (ended.moved) tell.drag(ended.rows(shownRows(), x, y), event);
    else mark(marked); // the plot has its own opinion of a click
  });
  addEventListener("click", (event) => { // before the plot, which would select the one point
    if (event.target !== canvas) return;
    event.stopPropagation();
    const at = spot(event);
    if (down && Math.hypot(at[0] - down[0], at[1] - down[1]) > 4) return;
    const row = nearest(...at, REACH);
    if (row >= 0) tell.pick(row);
  }, true);

  // ---- fingers: one moves (or selects), two zoom
  const as = (type, event) => canvas.dispatchEvent(new MouseEvent(type, {
    bubbles: true, clientX: event.clientX, clientY: event.clientY, buttons: type === "mouseup" ? 0 : 1,
  }));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, spot(event));
    if (mode !== "move" && fingers.size === 1) as("mousedown", event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const after = spot(event);
    fingers.set(event.pointerId, after);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const span = (at) => Math.max(8, Math.hypot(at[0] - other[0], at[1] - other[1]));
      zoom(span(after) / span(before), [(after[0] + other[0]) / 2, (after[1] + other[1]) / 2]);
      pan((after[0] - before[0]) / 2, (after[1] - before[1]) / 2);
    } else if (mode === "move") pan(after[0] - before[0], after[1] - before[1]);
    else as("mousemove", event);
  });
  for (const type of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(type, (event) => {
      if (fingers.delete(event.pointerId) && mode !== "move" && !fingers.size) as("mouseup", event);
    });
  }

  // ---- keys on the map
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  box.addEventListener("keydown", (event) => {
    const direction = arrows[event.key];
    if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (event.shiftKey) return pan(-80 * direction[0], -80 * direction[1]);
    const started = current >= 0 && isShown(current) && inView(current);
    const row = started
      ? nearest(...place(current), Infinity, direction)
      : nearest(width / 2, height / 2);
    if (row < 0) return;
    reveal(row);
    tell.walk(row);
  });

  new ResizeObserver(() => {
    if (!box.clientWidth || !box.clientHeight) return;
    [width, height] = [box.clientWidth, box.clientHeight];
    renderer.resize(width, height);
    plot.set({ width, height });
    follow();
  }).observe(box);
  use("move");
  return {
    colour, show, mark, point, zoomTo, everything, zoom, pan, reveal, use, place, toScreen, inView, isShown, nearest,
    colourOf: (row) => palette[codes[row]],
    mode: () => mode, current: () => current, marked: () => marked, settled: () => queue,
    view: () => Array.from(camera.view), draws: () => last.count,
    fit: () => zoomTo(order, 0.02, false),
  };
}

// In place of the map where there is none: the lists work without it.
function noMap() {
  const nothing = () => {};
  let visible = null; // as in openMap
  return {
    colour: async () => {}, show: async (mask) => { visible = mask; }, mark: nothing, point: nothing, zoomTo: nothing, everything: nothing,
    zoom: nothing, pan: nothing, reveal: nothing, use: nothing, place: () => [0, 0], toScreen: () => [0, 0], fit: nothing,
    inView: () => false, colourOf: () => "", isShown: (row) => !visible || visible[row] === 1, nearest: () => -1, mode: () => "move",
    current: () => -1, marked: () => [],
    settled: async () => {}, view: () => [], draws: () => 0,
  };
}
