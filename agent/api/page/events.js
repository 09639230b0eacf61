// What happened, newest first.

import { Keyed, byId, el, say, set } from "./dom.js";
import { clock, moment, printable } from "./words.js";

export class Events {
  constructor(store) {
    this.store = store;
    this.rows = new Keyed(byId("event-rows"), () => row());
  }

  show(fits) {
    const found = this.store.events.filter(fits);
    this.rows.show(found.map((event) => [event.seq, event]), update);
    byId("event-rows").hidden = !found.length;
    byId("events-none").hidden = found.length > 0;
    say(byId("events-none"), this.store.events.length ? "No event fits the filter." : "Nothing has happened yet.");
  }
}

function row() {
  const part = { at: el("time"), who: el("strong"), reason: el("span", { class: "reason" }), text: el("span", { class: "text" }) };
  part.node = el("li", {}, part.at, el("div", {}, part.who, el("p", {}, part.reason, part.text)));
  return part;
}

function update(part, event) {
  if (part.shown === event) return;
  part.shown = event;
  set(part.node, "data-type", event.type);
  set(part.at, "datetime", new Date(event.at * 1000).toISOString());
  set(part.at, "title", moment(event.at));
  say(part.at, clock(event.at));
  say(part.reason, `${event.type === "Warning" ? "! " : ""}${event.reason}${event.count > 1 ? ` ×${event.count}` : ""}`);
  say(part.who, printable(event.key ?? "agent"));
  say(part.text, printable(event.message));
}
