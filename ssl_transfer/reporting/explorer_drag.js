"use strict";
// What a drag with the mouse or a finger goes round. The plot draws its line, but drops places while the page is busy;
// here all are kept, those too that a browser puts together in one event, where the data lie: the view may move meanwhile.
const APPLE = /Mac|iP/.test(navigator.platform);

class Drag {
  constructor(start, isBox, toData) { // start: in px; toData: from there to the points' coordinates
    Object.assign(this, { start, isBox, toData, last: start, moved: false, places: [...toData(...start)] });
  }
  extend(event, spot) {
    const events = event.getCoalescedEvents?.() ?? []; // of secure pages alone
    for (const each of events.length ? events : [event]) this.add(spot(each));
  }
  add(at) {
    const far = (from) => Math.hypot(at[0] - from[0], at[1] - from[1]);
    this.moved ||= far(this.start) > 4; // else it is a click
    if (far(this.last) < 1) return;
    this.places.push(...this.toData(...at));
    this.last = at;
  }
  rows(rows, x, y) { // those of `rows` inside: of the box between start and end, or by the even-odd rule of the lasso
    const places = Float64Array.from(this.isBox ? [...this.places.slice(0, 2), ...this.toData(...this.last)] : this.places);
    let [left, low, right, high] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < places.length; i += 2) {
      left = Math.min(left, places[i]);
      right = Math.max(right, places[i]);
      low = Math.min(low, places[i + 1]);
      high = Math.max(high, places[i + 1]);
    }
    const near = rows.filter((row) => x(row) >= left && x(row) <= right && y(row) >= low && y(row) <= high);
    return this.isBox ? near : near.filter((row) => isInside(places, x(row), y(row)));
  }
}

function isInside(places, px, py) {
  let inside = false;
  for (let i = 0, j = places.length - 2; i < places.length; j = i, i += 2) {
    const [y0, y1] = [places[i + 1], places[j + 1]];
    if (y0 > py !== y1 > py && px < places[i] + ((places[j] - places[i]) * (py - y0)) / (y1 - y0)) inside = !inside;
  }
  return inside;
}

// What is selected after a drag round `rows`: they alone, or by the keys that were held more or fewer than before.
function combined(before, rows, event) {
  if (event.altKey) {
    const taken = new Set(rows);
    return before.filter((row) => !taken.has(row));
  }
  return (APPLE ? event.metaKey : event.ctrlKey) ? [...before, ...rows] : rows;
}
