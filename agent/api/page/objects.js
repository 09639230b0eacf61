// Mappings, and the objects that are neither mappings nor destinations: a row each, which opens.

import { Keyed, byId, el, say, set } from "./dom.js";
import { backlog, waiting } from "./store.js";
import { MARKS, URGENCY, WORDS, ago, count, duration, mark, moment, notes, printable, size, why } from "./words.js";

const order = new Intl.Collator("en", { numeric: true }).compare;

export class Objects {
  #open = new Set();
  #shown = new Map(); // name -> the document that its row shows

  /** `mappings`: the table of mappings, else that of the rest. */
  constructor(store, acts, body, mappings) {
    this.store = store;
    this.acts = acts;
    this.mappings = mappings;
    this.rows = new Keyed(byId(body), (name) => this.#row(name));
  }

  show(fits, all = false) {
    const kinds = this.mappings ? ["Mapping"] : null;
    const found = [...this.store.objects.values()].filter((each) => (kinds ? kinds.includes(each.kind) : !["Mapping", "Destination"].includes(each.kind)) && fits(each));
    const rank = new Map(found.map((each) => [each, URGENCY.indexOf(mark(each))]));
    found.sort((a, b) => rank.get(a) - rank.get(b) || order(a.kind, b.kind) || order(a.name, b.name));
    this.rows.show(found.map((each) => [`${each.kind}/${each.name}`, each]), (part, each) => this.#update(part, each, all));
    return found.length;
  }

  /** The columns that change by themselves. */
  #times(part, each) {
    const now = this.store.head.time;
    const { since } = part.waiting;
    say(part.oldest, since ? duration(now - since) : "–");
    say(part.success, mark(each) === "ready" ? "now" : each.lastSuccess ? ago(now - each.lastSuccess) : "never");
    if (part.titled === each.lastSuccess) return;
    part.titled = each.lastSuccess;
    set(part.success, "title", each.lastSuccess ? moment(each.lastSuccess) : null);
  }

  #update(part, each, all) {
    const name = `${each.kind}/${each.name}`;
    if (all || this.#shown.get(name) !== each) {
      this.#shown.set(name, each);
      const state = mark(each);
      set(part.node, "data-state", state);
      say(part.mark, MARKS[state]);
      say(part.state, `${WORDS[state]}. `);
      const text = why(each);
      say(part.why, text || WORDS[state]);
      say(part.notes, notes(each).map((note) => `! ${note}`).join("\n"));
      if (this.mappings) this.#numbers(part, each);
      else say(part.kind, each.kind);
      if (part.detail) this.#fill(part, each);
    }
    if (this.mappings) this.#times(part, each);
  }

  #numbers(part, each) {
    part.waiting = waiting(each);
    const { files, bytes, deletions } = part.waiting;
    say(part.to, (each.deliveries ?? []).map((d) => printable(d.destination)).join(", "));
    const words = [files && count(files, "file"), bytes && size(bytes), deletions && `${count(deletions, "file")} to delete`];
    say(part.backlog, words.filter(Boolean).join(", ") || "–");
  }

  #row(name) {
    const part = { mark: el("span", { class: "mark", "aria-hidden": "true" }), state: el("span", { class: "hidden" }) };
    const short = printable(name.slice(name.indexOf("/") + 1));
    part.button = el("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: () => this.#toggle(name, part) },
      part.mark, part.state, el("span", { class: "name", text: short }));
    part.why = el("span", { class: "why" });
    part.notes = el("span", { class: "notes" });
    const cells = [cell("", part.button)];
    if (this.mappings) {
      for (const [key, label, style] of [["to", "To", ""], ["backlog", "Backlog", "number"], ["oldest", "Oldest wait", "number"], ["success", "In sync", "number"]]) {
        cells.push((part[key] = cell(label)));
        if (style) part[key].classList.add(style);
      }
    } else cells.push((part.kind = cell("Kind")));
    part.waiting = { since: null };
    part.node = el("tr", { role: "row", "data-object": name }, ...cells, cell("", part.why, part.notes));
    part.nodes = [part.node];
    if (this.#open.has(name)) this.#expand(name, part);
    return part;
  }

  #toggle(name, part) {
    if (part.detail) {
      this.#open.delete(name);
      part.detail.remove();
      part.detail = null;
      part.nodes = [part.node];
      set(part.button, "aria-expanded", "false");
    } else this.#expand(name, part);
  }

  #expand(name, part) {
    this.#open.add(name);
    part.inside = el("td", { role: "cell" });
    part.detail = el("tr", { role: "row", class: "detail" }, part.inside);
    part.nodes = [part.node, part.detail];
    set(part.button, "aria-expanded", "true");
    part.acts = el("div", { class: "acts" });
    part.conditions = el("tbody");
    part.facts = el("dl", { class: "facts" });
    const head = el("tr", {}, ...["Condition", "Reason", "Since", "Message"].map((text) => el("th", { scope: "col", text })));
    const table = el("table", { class: "conditions" }, el("caption", { class: "hidden", text: `Conditions of ${printable(name)}` }), el("thead", {}, head), part.conditions);
    part.inside.append(part.acts, table, part.facts);
    this.#fill(part, this.store.objects.get(name));
    part.node.after(part.detail);
  }

  #fill(part, each) {
    if (!each) return;
    this.acts.buttons(part.acts, each);
    part.conditions.replaceChildren(...each.conditions.map((c) => el("tr", {},
      el("th", { scope: "row", text: `${c.type}${c.status ? "" : ": no"}` }),
      el("td", { text: c.reason }),
      el("td", { text: ago(this.store.head.time - c.since), title: moment(c.since) }),
      el("td", { text: printable(c.message) }))));
    const facts = [["Declared in", each.from ? printable(each.from) : "–"]];
    const labels = Object.entries(each.labels ?? {}).map(([key, value]) => `${key}=${value}`);
    if (labels.length) facts.push(["Labels", printable(labels.join(", "))]);
    for (const delivery of each.deliveries ?? []) facts.push([`At ${printable(delivery.destination)}`, deliveryText(delivery)]);
    part.facts.replaceChildren(...facts.map(([name, text]) => el("div", {}, el("dt", { text: name }), el("dd", { text }))));
  }
}

function cell(label, ...children) {
  return el("td", { role: "cell", "data-label": label }, ...children);
}

function deliveryText(d) {
  const open = backlog(d);
  const words = [
    `${count(d.files, "file")} there (${size(d.bytes)})`,
    open.files && `${count(open.files, "file")} to send`,
    d.heldDeletions && `${count(d.heldDeletions, "deletion")} held for approval`,
    d.deletionsInGrace && `${count(d.deletionsInGrace, "deletion")} wait for their time`,
    d.failuresInARow && `failed ${d.failuresInARow} times in a row: ${printable(d.lastError)}`,
    d.drift?.missing && `${count(d.drift.missing, "file")} missing there`,
    d.drift?.changed && `${count(d.drift.changed, "file")} changed there`,
    d.drift?.damaged && `${count(d.drift.damaged, "file")} damaged there`,
  ];
  return words.filter(Boolean).join("; ");
}
