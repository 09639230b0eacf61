// Lanes as a stacked chart over the last ten minutes, and as a table against their proportions.

import { Keyed, el, place, say, set } from "./dom.js";
import { percent, printable, rate } from "./words.js";

const SPAN = 600; // seconds
const BUCKET = 4; // seconds to a column
const GAP = 25; // a longer step between samples is a time of which nothing is known
const RECENT = 30; // seconds over which shares are measured
const WIDTH = SPAN / BUCKET;
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

/** Average kbit/s of each lane in each column, null where nothing is known. `points`: [time, rate, …]. */
export function columns(points, lanes, now) {
  const end = Math.floor(now / BUCKET) * BUCKET;
  const begin = end - SPAN;
  const sums = Array.from({ length: WIDTH }, () => null);
  for (let n = 1; n < points.length; n += 1) {
    const [from, to] = [points[n - 1][0], points[n][0]];
    if (to - from > GAP || to <= begin) continue;
    const last = Math.min(WIDTH - 1, Math.ceil((to - begin) / BUCKET) - 1);
    for (let at = Math.max(0, Math.floor((from - begin) / BUCKET)); at <= last; at += 1) {
      const overlap = Math.min(to, begin + (at + 1) * BUCKET) - Math.max(from, begin + at * BUCKET);
      if (overlap <= 0) continue;
      sums[at] ??= { weight: 0, rates: new Array(lanes).fill(0) };
      sums[at].weight += overlap;
      for (let lane = 0; lane < lanes; lane += 1) sums[at].rates[lane] += points[n][lane + 1] * overlap;
    }
  }
  return sums.map((sum) => (sum ? sum.rates.map((value) => value / sum.weight) : null));
}

/** Average kbit/s of each lane over the last half minute. */
export function recent(points, lanes, now, span = RECENT) {
  const sums = new Array(lanes).fill(0);
  let weight = 0;
  for (let n = points.length - 1; n > 0 && points[n][0] > now - span; n -= 1) {
    const step = points[n][0] - points[n - 1][0];
    if (step > GAP) break;
    weight += step;
    for (let lane = 0; lane < lanes; lane += 1) sums[lane] += points[n][lane + 1] * step;
  }
  return sums.map((sum) => (weight ? sum / weight : 0));
}

/** A round number at or above the value. */
export function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((top) => top >= value);
}

export class Chart {
  constructor() {
    this.paths = [];
    this.svg = document.createElementNS(SVG, "svg");
    set(this.svg, "viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    set(this.svg, "preserveAspectRatio", "none");
    set(this.svg, "aria-hidden", "true");
    this.top = el("span", { class: "chart-top" });
    this.limit = el("span", { class: "chart-limit", hidden: true });
    this.plot = el("div", { class: "chart-plot" }, this.svg, this.top, this.limit);
    this.quiet = el("p", { class: "none", text: "No traffic in the last ten minutes." });
    const axis = el("div", { class: "chart-axis", "aria-hidden": "true" });
    axis.append(...["10 min ago", "5 min", "now"].map((text) => el("span", { text })));
    this.body = el("tbody");
    const head = el("tr", {}, ...["Lane", "Rate", "Share", "Asked"].map((text) => el("th", { scope: "col", text })));
    this.table = el("table", { class: "lanes" }, el("caption", { class: "hidden", text: "Lanes, over the last half minute" }), el("thead", {}, head), this.body);
    this.lanes = new Keyed(this.body, (name) => this.#lane(name));
    this.picture = el("div", { class: "chart-picture" }, this.plot, axis);
    this.node = el("div", { class: "chart" }, this.picture, this.quiet, this.table);
  }

  /** `limit`: kbit/s or null. */
  show(traffic, now, limit) {
    const { lanes, points } = traffic;
    const found = columns(points, lanes.length, now);
    const peak = found.reduce((most, rates) => Math.max(most, rates ? rates.reduce((a, b) => a + b, 0) : 0), 0);
    const moved = peak > 0.5;
    this.picture.hidden = !moved;
    this.quiet.hidden = moved;
    const rates = recent(points, lanes.length, now);
    const total = rates.reduce((a, b) => a + b, 0);
    this.lanes.show(lanes.map((lane, n) => [lane.name, { ...lane, n, rate: rates[n], measured: total ? rates[n] / total : null }]), showLane);
    if (moved) this.#draw(found, lanes.length, peak, limit);
    return total;
  }

  #draw(found, lanes, peak, limit) {
    const near = limit !== null && peak > limit * 0.3;
    const top = round(Math.max(peak, near ? limit : 0) * 1.08);
    say(this.top, rate(top));
    this.limit.hidden = !near;
    if (near) {
      say(this.limit, `limit ${rate(limit)}`);
      place(this.limit, "bottom", limit / top);
    }
    while (this.paths.length < lanes) this.paths.push(this.svg.appendChild(document.createElementNS(SVG, "path")));
    this.paths.forEach((path, lane) => {
      set(path, "class", `lane-${lane % 6}`);
      set(path, "d", lane < lanes ? area(found, lane, top) : "");
    });
  }

  #lane(name) {
    const part = { swatch: el("span", { class: "swatch", "aria-hidden": "true" }), rate: el("td", { class: "number" }) };
    part.fill = el("span", { class: "share-fill" });
    part.tick = el("span", { class: "share-tick" });
    part.text = el("span", { class: "share-text" });
    part.bar = el("span", { class: "share", "aria-hidden": "true" }, part.fill, part.tick);
    part.asked = el("td", { class: "number" });
    const head = el("th", { scope: "row" }, part.swatch, printable(name));
    part.node = el("tr", {}, head, part.rate, el("td", { class: "measured" }, part.bar, part.text), part.asked);
    return part;
  }
}

function showLane(part, lane) {
  set(part.swatch, "class", `swatch lane-${lane.n % 6}`);
  set(part.fill, "class", `share-fill lane-${lane.n % 6}`);
  say(part.rate, rate(lane.rate));
  place(part.fill, "width", lane.measured ?? 0);
  place(part.tick, "left", lane.share);
  say(part.text, lane.measured === null ? "–" : percent(lane.measured));
  say(part.asked, lane.share ? percent(lane.share) : "the rest");
}

/** The outline of one lane upon those below it; pieces where something is known. */
function area(found, lane, top) {
  const y = (value) => (HEIGHT * (1 - value / top)).toFixed(2);
  const below = (rates, lanes) => rates.slice(0, lanes).reduce((a, b) => a + b, 0);
  let path = "";
  for (let begin = 0; begin < found.length; begin += 1) {
    if (!found[begin]) continue;
    let end = begin;
    while (end + 1 < found.length && found[end + 1]) end += 1;
    const upper = [];
    const lower = [];
    for (let at = begin; at <= end; at += 1) {
      const [low, high] = [y(below(found[at], lane)), y(below(found[at], lane + 1))];
      upper.push(`${at} ${high}L${at + 1} ${high}`);
      lower.unshift(`${at + 1} ${low}L${at} ${low}`);
    }
    path += `M${upper.join("L")}L${lower.join("L")}Z`;
    begin = end;
  }
  return path;
}
