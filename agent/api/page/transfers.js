// What is on its way: one row for each transfer.

import { Keyed, byId, el, place, say, set } from "./dom.js";
import { duration, ordinal, percent, printable, rate, size } from "./words.js";

const SHOWN = 200;

export class Transfers {
  constructor(store) {
    this.store = store;
    this.rows = new Keyed(byId("transfer-rows"), () => row());
  }

  show(fits) {
    const all = this.store.transfers();
    const found = all.filter((t) => fits(this.store.objects.get(`Mapping/${t.mapping}`)));
    this.rows.show(found.slice(0, SHOWN).map((t) => [t.key, t]), update);
    byId("transfers-none").hidden = found.length > 0;
    byId("transfers").querySelector("table").hidden = !found.length;
    say(byId("transfers-none"), all.length ? "No transfer fits the filter." : "Nothing is on its way.");
    say(byId("transfers-count"), found.length > SHOWN ? `first ${SHOWN} of ${found.length}` : found.length ? String(found.length) : "");
  }
}

function cell(label, ...children) {
  return el("td", { role: "cell", "data-label": label }, ...children);
}

function row() {
  const part = {
    name: el("span", { class: "name" }),
    lane: el("span"),
    place: el("span", { class: "quiet" }),
    fill: el("span", { class: "bar-fill" }),
    share: el("span", { class: "bar-text" }),
    done: el("span"),
    rate: el("span"),
    left: el("span"),
  };
  part.bar = el("span", { class: "bar-track", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, part.fill);
  part.node = el("tr", { role: "row" },
    cell("Transfer", part.name),
    cell("Lane", part.lane, part.place),
    cell("Progress", part.bar, part.share),
    cell("Done", part.done),
    cell("Rate", part.rate),
    cell("Time left", part.left),
  );
  for (const number of [3, 4, 5]) part.node.children[number].classList.add("number");
  return part;
}

function update(part, t) {
  const share = t.totalBytes ? t.doneBytes / t.totalBytes : 0;
  const name = `${printable(t.mapping)} → ${printable(t.destination)}`;
  say(part.name, name);
  say(part.lane, printable(t.lane || "–"));
  say(part.place, t.of > 1 ? ` ${ordinal(t.position)} of ${t.of}` : "");
  set(part.place, "title", t.of > 1 ? `priority ${t.priority}; lower goes first` : null);
  place(part.fill, "width", share);
  set(part.bar, "aria-valuenow", Math.round(share * 100));
  set(part.bar, "aria-label", name);
  say(part.share, percent(share));
  say(part.done, `${size(t.doneBytes)} of ${size(t.totalBytes)}`);
  set(part.done, "title", `${t.doneFiles} of ${t.totalFiles} files`);
  say(part.rate, t.rate ? rate((t.rate * 8) / 1000) : t.state === "sending" ? "–" : printable(t.state));
  say(part.left, t.left === null ? "–" : duration(Math.ceil(t.left)));
}
