"use strict";
(() => {
  const root = document.currentScript.parentElement;
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const find = (name) => root.querySelector(name);
  const [cards, more, nothing, result, filters] =
    [".cards", ".more", ".nothing", ".result", ".filters"].map(find);
  const [byClass, bySplit, order, search, slider] =
    [".by-class", ".by-split", ".order", "input[type=search]", ".threshold input"].map(find);
  const figure = find(".histogram");
  const plot = figure.querySelector(".plot > svg");
  const marks = plot.querySelectorAll(".mark");
  const count = data.path.length;
  const low = Number(figure.dataset.low);
  const high = Number(figure.dataset.high);
  const CHUNK = 60; // cards drawn at a time

  const byScore = [...data.score.keys()].sort((a, b) => data.score[b] - data.score[a] || a - b);
  const collator = new Intl.Collator("en", { numeric: true });
  const sorted = { high: byScore, low: [...byScore].reverse(), path: null };
  const lower = data.path.map((path) => path.toLowerCase());
  const withTruth = data.truth.some((truth) => truth >= 0);
  const somePlain = Object.keys(data.pictures).length < count && Object.keys(data.pictures).length > 0;

  let line = data.line; // the threshold: scores strictly above are flagged
  let moved = false; // until then the run's own decisions stand
  let filter = "all";
  let list = []; // positions that pass the filters, in order
  let drawn = 0; // how many of them have a card
  let shown = new Map(); // position -> card

  // ---- words and numbers
  const spread = data.score[byScore[0]] - data.score[byScore[count - 1]] || Math.abs(data.score[0]) || 1;
  const decimals = 3 - Math.floor(Math.log10(spread));
  const score = (value) => {
    if (decimals > 8 || Math.abs(value) >= 1e7) return value.toExponential(3);
    return value.toLocaleString("en", { minimumFractionDigits: Math.max(0, decimals), maximumFractionDigits: Math.max(0, decimals) });
  };
  const whole = (value) => value.toLocaleString("en");
  const small = (value) => value.toLocaleString("en", { maximumSignificantDigits: 2 });
  const percent = (part, all) => `${((100 * part) / all).toFixed(1)}\u00a0%`;
  const plural = (number, one, many) => `${whole(number)} ${number === 1 ? one : many}`;

  const flagged = (i) => (moved ? data.score[i] > line : data.flagged[i] === 1);
  const outcome = (i) => {
    const flag = flagged(i);
    if (data.truth[i] < 0) return flag ? ["flagged", "flagged"] : ["", "not flagged"];
    if (data.truth[i] === 1) return flag ? ["flagged right", "caught"] : ["missed", "missed"];
    return flag ? ["flagged alarm", "false alarm"] : ["right", "normal"];
  };
  const passes = {
    all: () => true,
    flagged,
    passed: (i) => !flagged(i),
    missed: (i) => data.truth[i] === 1 && !flagged(i),
    alarms: (i) => data.truth[i] === 0 && flagged(i),
    pictured: (i) => i in data.pictures,
  };
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // ---- cards
  function card(i) {
    const item = make("li", "card");
    const picture = make("button", "pic");
    picture.type = "button";
    picture.tabIndex = -1;
    picture.dataset.item = i;
    const stored = data.pictures[i];
    if (stored) {
      stored.slice(0, 2).forEach((source, layer) => {
        if (!source) return;
        const image = make("img", layer ? "heat" : "");
        image.alt = "";
        image.decoding = "async";
        image.src = source;
        picture.append(image);
      });
      picture.classList.toggle("pixelated", stored[2] === 1);
      if (stored[1]) picture.setAttribute("aria-pressed", "false");
    } else picture.append(make("span", "empty", "no picture"));
    const words = make("div", "words");
    const first = make("p", "first");
    first.append(make("b", "", score(data.score[i])), make("span", "outcome"));
    const about = [];
    if (data.p[i] !== null) about.push(`p\u00a0=\u00a0${small(data.p[i])}`);
    if (data.label[i] >= 0) about.push(data.classes[data.label[i]]);
    if (data.splits.length > 1 && data.split[i] >= 0) about.push(data.splits[data.split[i]]);
    const path = make("p", "path", data.path[i].split(/[\\/]/).slice(-2).join("/"));
    path.title = data.path[i];
    words.append(first, make("p", "about", about.join(" · ")), path);
    item.append(picture, words);
    return item;
  }
  function colour(i, item) {
    const [style, word] = outcome(i);
    item.className = `card ${style}${i in data.pictures ? "" : " bare"}`;
    item.querySelector(".outcome").textContent = word;
    item.firstChild.setAttribute("aria-label", `${data.path[i]}: score ${score(data.score[i])}, ${word}`);
  }
  function draw(until) {
    const fresh = [];
    for (; drawn < Math.min(until, list.length); drawn++) {
      const i = list[drawn];
      if (!shown.has(i)) shown.set(i, card(i));
      colour(i, shown.get(i));
      fresh.push(shown.get(i));
    }
    cards.append(...fresh);
    more.hidden = drawn >= list.length;
    more.textContent = `Show more: ${whole(list.length - drawn)} left`;
    const first = cards.querySelector(".pic");
    if (first && !cards.querySelector('.pic[tabindex="0"]')) first.tabIndex = 0;
  }
  function choose() {
    const text = search.value.trim().toLowerCase();
    if (order.value === "path" && !sorted.path)
      sorted.path = [...byScore].sort((a, b) => collator.compare(data.path[a], data.path[b]));
    const next = sorted[order.value].filter((i) => passes[filter](i)
      && (byClass.value === "" || data.label[i] === Number(byClass.value))
      && (bySplit.value === "" || data.split[i] === Number(bySplit.value))
      && (text === "" || lower[i].includes(text)));
    if (next.length === list.length && next.every((i, place) => i === list[place]) && drawn) {
      list.slice(0, drawn).forEach((i) => colour(i, shown.get(i)));
      return;
    }
    list = next;
    drawn = 0;
    cards.querySelectorAll('.pic[tabindex="0"]').forEach((picture) => { picture.tabIndex = -1; });
    cards.replaceChildren();
    nothing.hidden = list.length > 0;
    draw(CHUNK);
  }

  // ---- threshold
  function tell() {
    let hits = 0, worst = -1;
    const known = [0, 0], caught = [0, 0];
    for (let i = 0; i < count; i++) {
      const flag = flagged(i);
      hits += flag;
      if (flag && data.p[i] !== null) worst = Math.max(worst, data.p[i]);
      if (data.truth[i] >= 0) { known[data.truth[i]]++; caught[data.truth[i]] += flag; }
    }
    const where = moved ? `At ${score(line)}` : data.finite ? `As decided, at ${score(line)}` : "As decided, without a threshold";
    const parts = [`${where}: ${whole(hits)} of ${whole(count)} flagged (${percent(hits, count)})`];
    if (worst >= 0) parts[0] += `, p\u00a0≤\u00a0${small(worst)}`;
    if (known[1]) parts.push(`${whole(caught[1])} of ${plural(known[1], "anomaly", "anomalies")} caught (${percent(caught[1], known[1])})`);
    if (known[0]) parts.push(`${plural(caught[0], "false alarm", "false alarms")} among ${plural(known[0], "normal image", "normal images")} (${percent(caught[0], known[0])})`);
    result.textContent = `${parts.join("; ")}.`;
    if (moved) {
      const reset = make("button", "", "Reset");
      reset.type = "button";
      reset.addEventListener("click", () => { line = data.line; moved = false; update(); slider.focus(); });
      result.append(reset);
    }
    const counts = {
      all: count, flagged: hits, passed: count - hits, missed: known[1] - caught[1], alarms: caught[0],
      pictured: Object.keys(data.pictures).length,
    };
    filters.querySelectorAll("button").forEach((button) => {
      button.textContent = `${button.dataset.name} ${whole(counts[button.dataset.filter])}`;
    });
  }
  function update() {
    const across = Math.min(100, Math.max(0, (100 * (line - low)) / (high - low)));
    marks.forEach((mark) => { mark.setAttribute("x1", `${across}%`); mark.setAttribute("x2", `${across}%`); });
    slider.value = line;
    slider.setAttribute("aria-valuetext", score(line));
    tell();
    choose();
  }
  let waiting = false;
  function move(value) {
    line = value;
    moved = true;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  }
  function step(up) { // past one image
    const scores = byScore.map((i) => data.score[i]);
    const next = up ? scores.filter((value) => value > line).at(-1) : scores.find((value) => value < line);
    move(next ?? (up ? line : scores.at(-1) - spread / 1000));
  }
  slider.min = low;
  slider.max = high;
  slider.addEventListener("input", () => move(Number(slider.value)));
  slider.addEventListener("keydown", (event) => {
    const up = event.key === "ArrowRight" || event.key === "ArrowUp";
    if (!up && event.key !== "ArrowLeft" && event.key !== "ArrowDown") return;
    event.preventDefault();
    step(up);
  });
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    move(low + (high - low) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    plot.setPointerCapture(event.pointerId);
    at(event);
  });
  plot.addEventListener("pointermove", (event) => { if (plot.hasPointerCapture(event.pointerId)) at(event); });

  const counts = make("p", "counts");
  figure.append(counts);
  plot.addEventListener("pointerover", (event) => {
    const bar = event.target.closest(".bin");
    counts.textContent = bar ? bar.firstChild.textContent : "";
  });
  plot.addEventListener("pointerleave", () => { counts.textContent = ""; });

  // ---- controls
  const names = { all: "All", flagged: "Flagged", passed: "Not flagged" };
  if (withTruth) Object.assign(names, { missed: "Missed", alarms: "False alarms" });
  if (somePlain) names.pictured = "With picture";
  Object.entries(names).forEach(([key, name]) => {
    const button = make("button");
    button.type = "button";
    button.dataset.filter = key;
    button.dataset.name = name;
    button.setAttribute("aria-pressed", String(key === filter));
    button.addEventListener("click", () => {
      filter = key;
      filters.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      choose();
    });
    filters.append(button);
  });
  [[byClass, data.classes], [bySplit, data.splits]].forEach(([select, options]) => {
    select.append(new Option("all", ""), ...options.map((name, index) => new Option(name, index)));
    select.parentElement.hidden = options.length < 2;
  });
  [byClass, bySplit, order].forEach((select) => select.addEventListener("change", choose));
  search.addEventListener("input", choose);
  const heats = find(".heats");
  heats.hidden = !Object.values(data.pictures).some((stored) => stored[1]);
  heats.addEventListener("click", () => {
    heats.setAttribute("aria-pressed", String(!cards.classList.toggle("plain")));
  });

  // ---- walking and toggling
  function focus(place) {
    if (place < 0 || place >= list.length) return;
    draw(place + 1 > drawn ? place + CHUNK : drawn);
    cards.querySelectorAll('.pic[tabindex="0"]').forEach((picture) => { picture.tabIndex = -1; });
    const picture = shown.get(list[place]).firstChild;
    picture.tabIndex = 0;
    picture.focus();
  }
  cards.addEventListener("click", (event) => {
    const picture = event.target.closest(".pic[aria-pressed]");
    if (picture) picture.setAttribute("aria-pressed", String(picture.getAttribute("aria-pressed") === "false"));
  });
  cards.addEventListener("keydown", (event) => {
    const picture = event.target.closest(".pic");
    if (!picture || event.ctrlKey || event.altKey || event.metaKey) return;
    const columns = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
    const place = list.indexOf(Number(picture.dataset.item));
    const goal = {
      ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - columns, ArrowDown: Math.min(place + columns, list.length - 1),
      Home: 0, End: drawn - 1,
    }[event.key];
    if (goal === undefined) return;
    event.preventDefault();
    focus(goal);
  });
  more.addEventListener("click", () => draw(drawn + CHUNK));
  if ("IntersectionObserver" in window) {
    const near = new IntersectionObserver((seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      draw(drawn + CHUNK);
      near.unobserve(more); // observed anew, it reports again if it is still near
      near.observe(more);
    }, { rootMargin: "900px" });
    near.observe(more);
  }

  root.classList.add("live");
  find(".threshold").hidden = find(".controls").hidden = false;
  update();
})();
