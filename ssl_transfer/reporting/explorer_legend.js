"use strict";
// What the colours of the map mean: the column it is coloured by, its categories or scale, and their names on the map.
// `changed` is called when another column colours the map or other images are shown on it.
function openLegend(store, map, say, changed) {
  const colourBy = find("#colour");
  const categories = find(".categories");
  const legendSearch = find("#legend-search");
  const showAll = find("#show-all");
  const scale = find(".scale");
  const COLOURS = 12; // --c0 … --c11
  const BINS = 48;
  const LISTED = 200; // categories listed at a time
  const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
  const column = () => store.columns[colourBy.selectedIndex];
  const chosen = new Set(); // categories shown alone
  const nameBox = find(".category-names");
  const nameButton = find("#names");
  const NAMED = 24; // more would cover the map
  let counts = [];
  let names = [];

  function viridis(share) {
    const at = share * (VIRIDIS.length - 1);
    const [low, high] = [VIRIDIS[Math.floor(at)], VIRIDIS[Math.min(VIRIDIS.length - 1, Math.floor(at) + 1)]];
    const mixed = [1, 3, 5].map((start) => {
      const [a, b] = [low, high].map((colour) => parseInt(colour.slice(start, start + 2), 16));
      return Math.round(a + (b - a) * (at % 1)).toString(16).padStart(2, "0");
    });
    return `#${mixed.join("")}`;
  }
  const ramp = () => { // from faint to strong on the page's ground
    const [low, high] = isDark() ? [0.16, 1] : [0, 0.9];
    return Array.from({ length: BINS }, (_, bin) => viridis(low + ((high - low) * bin) / (BINS - 1)));
  };
  function limits(values) { // without the outermost hundredth where that stretches the scale much
    const sorted = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
    if (!sorted.length) return [0, 1, "none", "none"];
    const [least, most] = [sorted[0], sorted.at(-1)];
    const [low, high] = [sorted[Math.floor(0.01 * (sorted.length - 1))], sorted[Math.ceil(0.99 * (sorted.length - 1))]];
    const long = most - least > 1.5 * (high - low) && high > low;
    const [from, to] = long ? [low, high] : [least, most];
    return [from, to, (long ? "≤ " : "") + store.said(from), (long ? "≥ " : "") + store.said(to)];
  }
  const many = () => column().names.length > COLOURS; // they share colours, until some are shown alone
  const shade = (code) => {
    if (code === column().names.length) return COLOURS;
    return (many() && chosen.has(code) ? [...chosen].indexOf(code) : code) % COLOURS;
  };
  const colourOf = (code) => css(shade(code) === COLOURS ? "--floor" : `--c${shade(code)}`);

  async function recolour() {
    const shown = column();
    const drawn = shown ? shown.kind : "none";
    scale.hidden = drawn !== "number";
    categories.hidden = drawn !== "text";
    legendSearch.hidden = drawn !== "text" || shown.names.length <= COLOURS;
    if (drawn === "none") return map.colour(new Uint8Array(store.count), [css("--c0")]);
    if (drawn === "number") {
      const [low, high, lowText, highText] = limits(shown.values);
      const colours = ramp();
      const bin = (value) => Math.min(BINS - 1, Math.max(0, Math.floor(((value - low) / (high - low || 1)) * BINS)));
      const codes = Uint8Array.from(shown.values, (value) => (Number.isNaN(value) ? BINS : bin(value)));
      scale.querySelector("i").style.background = `linear-gradient(to right, ${colours.join(",")})`;
      scale.querySelector(".low").textContent = lowText;
      scale.querySelector(".high").textContent = highText;
      const none = codes.filter((code) => code === BINS).length;
      scale.querySelector(".none").textContent = none ? `grey: ${images(none)} without a value` : "";
      return map.colour(codes, [...colours, css("--floor")]);
    }
    counts = new Array(shown.names.length + 1).fill(0);
    shown.values.forEach((code) => { counts[code] += 1; });
    listCategories();
    const cycle = Array.from({ length: COLOURS }, (_, place) => css(`--c${place}`));
    const shades = counts.map((_, code) => shade(code));
    return map.colour(Uint8Array.from(shown.values, (code) => shades[code]), [...cycle, css("--floor")]);
  }
  function listCategories() {
    const { names } = column();
    const part = legendSearch.hidden ? "" : legendSearch.value.toLowerCase();
    const all = [...names, "none"].map((name, code) => ({ name, code }));
    const fitting = all.filter(({ name, code }) => counts[code] && (chosen.has(code) || name.toLowerCase().includes(part)));
    const items = fitting.slice(0, LISTED).map(({ name, code }) => {
      const item = make("li");
      const button = make("button");
      const dot = make("i");
      dot.style.background = colourOf(code);
      button.setAttribute("aria-pressed", String(chosen.has(code)));
      button.dataset.code = code;
      button.title = name;
      button.append(dot, make("span", "label", name), make("span", "count", whole(counts[code])));
      item.append(button);
      return item;
    });
    if (fitting.length > LISTED) items.push(make("li", "quiet", `${whole(fitting.length - LISTED)} more: search for them`));
    if (!fitting.length) items.push(make("li", "quiet", "No such category"));
    const focused = document.activeElement?.dataset?.code;
    categories.replaceChildren(...items);
    categories.classList.toggle("isolated", chosen.size > 0);
    if (focused !== undefined) categories.querySelector(`[data-code="${focused}"]`)?.focus();
    showAll.hidden = !chosen.size;
    nameCategories();
  }
  function isolate(code) {
    if (!chosen.delete(code)) chosen.add(code);
    isolated();
  }
  function isolated() {
    const shown = column();
    const mask = chosen.size ? Uint8Array.from(shown.values, (code) => Number(chosen.has(code))) : null;
    if (shown?.kind === "text") listCategories();
    else showAll.hidden = true;
    say(chosen.size ? `${images(mask.reduce((sum, one) => sum + one, 0))} shown` : "All images shown");
    map.show(mask);
    changed();
    return shown?.kind === "text" && many() ? recolour() : map.settled();
  }
  categories.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) isolate(Number(button.dataset.code));
  });
  showAll.addEventListener("click", () => { chosen.clear(); isolated(); colourBy.focus(); });
  legendSearch.addEventListener("input", listCategories);
  colourBy.append(...store.columns.map(({ name }) => new Option(name)));
  colourBy.selectedIndex = store.start;
  find(".by").hidden = !store.columns.length;
  colourBy.addEventListener("change", () => {
    if (chosen.size) map.show(null);
    chosen.clear();
    showAll.hidden = true;
    legendSearch.value = "";
    nameBox.replaceChildren();
    names = [];
    recolour().then(changed);
  });

  // ---- names of categories on the map
  function nameCategories() {
    const shown = column();
    const listed = shown.names.map((_, code) => code).filter((code) => counts[code] && (!chosen.size || chosen.has(code)));
    names = [];
    if (listed.length <= NAMED && nameButton.getAttribute("aria-pressed") === "true") {
      const rows = new Map(listed.map((code) => [code, []]));
      shown.values.forEach((code, row) => rows.get(code)?.push(row));
      const middle = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
      names = listed.map((code) => {
        const label = make("span", "", shown.names[code]);
        label.style.color = colourOf(code);
        const at = [0, 1].map((axis) => middle(rows.get(code).map((row) => store.points[2 * row + axis])));
        return { label, at };
      });
    }
    nameBox.replaceChildren(...names.map(({ label }) => label));
    names.forEach((name) => { name.width = name.label.offsetWidth; name.height = name.label.offsetHeight; });
    placeNames();
  }
  function placeNames() { // at the median of each, pushed apart where two would overlap
    const spots = names.map(({ at }) => map.toScreen(...at));
    for (let turn = 0; turn < 12; turn += 1) {
      for (let i = 0; i < spots.length; i += 1) {
        for (let j = 0; j < i; j += 1) {
          const [across, apart] = [Math.abs(spots[i][0] - spots[j][0]), spots[i][1] - spots[j][1]];
          const need = (names[i].height + names[j].height) / 2;
          if (across > (names[i].width + names[j].width) / 2 || Math.abs(apart) >= need) continue;
          const push = ((need - Math.abs(apart)) / 2) * (apart >= 0 ? 1 : -1);
          spots[i][1] += push;
          spots[j][1] -= push;
        }
      }
    }
    const across = nameBox.parentElement.clientWidth;
    names.forEach(({ label, width }, i) => {
      const inside = spots[i][0] > 0 && spots[i][0] < across; // then whole
      if (inside) spots[i][0] = Math.min(Math.max(spots[i][0], width / 2 + 2), across - width / 2 - 2);
      label.style.transform = `translate(${spots[i][0]}px, ${spots[i][1]}px) translate(-50%, -50%)`;
    });
  }
  function toggleNames() {
    nameButton.setAttribute("aria-pressed", String(nameButton.getAttribute("aria-pressed") !== "true"));
    if (column()?.kind === "text") nameCategories();
  }
  nameButton.addEventListener("click", toggleNames);
  function colour(name) {
    colourBy.selectedIndex = store.columns.findIndex((other) => other.name === name);
    colourBy.dispatchEvent(new Event("change"));
    return map.settled();
  }
  return { recolour, column, isolate, colour, placeNames, toggleNames, chosen: () => [...chosen] };
}
