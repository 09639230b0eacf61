// A card for each destination: how it is, its rate and limit, its windows, its lanes.

import { Chart, recent } from "./chart.js";
import { Keyed, byId, el, place, say, set } from "./dom.js";
import { MARKS, WORDS, clock, duration, mark, notes, printable, rate, why } from "./words.js";

export class Destinations {
  #visible = new WeakSet();
  #dirty = new WeakMap();

  constructor(store, acts) {
    this.store = store;
    this.acts = acts;
    this.cards = new Keyed(byId("destinations"), (name) => this.#card(name));
    this.watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.#visible.add(target);
        else this.#visible.delete(target);
        if (isIntersecting) this.#dirty.get(target)?.();
      }
    }, { rootMargin: "200px" });
  }

  show(fits) {
    const found = this.store.of("Destination").filter(fits);
    this.cards.show(found.map((each) => [each.name, each]), (part, each) => this.#show(part, each));
  }

  /** What the lanes of a destination send together, kbit/s. */
  rate(name) {
    const traffic = this.store.traffic.get(name);
    return traffic ? recent(traffic.points, traffic.lanes.length, this.store.head.time, 5).reduce((a, b) => a + b, 0) : null;
  }

  #card(name) {
    const part = {
      mark: el("span", { class: "mark", "aria-hidden": "true" }),
      state: el("span", { class: "state" }),
      address: el("p", { class: "quiet address" }),
      why: el("p", { class: "why" }),
      now: el("strong"),
      limit: el("span", { class: "quiet" }),
      fill: el("span", { class: "meter-fill" }),
      window: el("p", { class: "window" }),
      acts: el("span", { class: "acts" }),
      chart: new Chart(),
    };
    const title = el("h3", {}, part.mark, el("span", { text: printable(name) }));
    part.meter = el("span", { class: "meter", "aria-hidden": "true" }, part.fill);
    part.node = el("article", { class: "card panel", "data-object": `Destination/${name}` },
      el("header", {}, title, part.state, part.acts),
      part.address,
      part.why,
      el("p", { class: "rate" }, part.now, part.limit, part.meter),
      part.window,
      part.chart.node,
    );
    this.watch.observe(part.node);
    return part;
  }

  #show(part, each) {
    const state = mark(each);
    set(part.node, "data-state", state);
    say(part.mark, MARKS[state]);
    say(part.state, state === "ready" ? (each.connected ? "Connected" : "Ready") : WORDS[state]);
    say(part.address, printable(`${each.address ?? ""}${each.port ? `:${each.port}` : ""} by ${each.server ?? "?"}`));
    const trouble = state === "ready" ? notes(each).join(" ") : [why(each), ...notes(each)].join(" ");
    say(part.why, trouble || printable(each.lastError ?? ""));
    const limit = each.sendRateMaxKbps ?? null;
    const now = this.rate(each.name);
    say(part.now, now === null ? "Not measured" : rate(now));
    say(part.limit, limit === null ? " of no limit" : ` of ${rate(limit)}`);
    part.meter.hidden = limit === null || now === null;
    place(part.fill, "width", limit ? (now ?? 0) / limit : 0);
    say(part.window, windowText(each.window, this.store.head.time));
    this.acts.buttons(part.acts, each);
    const traffic = this.store.traffic.get(each.name);
    part.chart.node.hidden = !traffic;
    const draw = () => traffic && part.chart.show(traffic, this.store.head.time, limit);
    this.#dirty.set(part.node, draw);
    if (this.#visible.has(part.node)) draw();
  }
}

function windowText(window, now) {
  if (!window) return "";
  const until = window.until ? `${clock(window.until).slice(0, 5)} (in ${duration(window.until - now)})` : "";
  if (window.pause) return `Paused by a window${until ? ` until ${until}` : ""}.`;
  if (window.sendRateMaxKbps !== null) return `A window limits it to ${rate(window.sendRateMaxKbps)}${until ? ` until ${until}` : ""}.`;
  return until ? `No window is open; the next one begins ${until}.` : "No window is open.";
}
