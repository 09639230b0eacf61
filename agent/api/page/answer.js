// The plain answer: in sync, yes or no, and why not; the numbers beside it; the revision.

import { Keyed, byId, el, say, set } from "./dom.js";
import { waiting } from "./store.js";
import { ago, count, duration, mark, number, printable, rate, size } from "./words.js";

const ANSWERS = {
  inSync: ["ready", "✓", "In sync"],
  converging: ["busy", "↻", "Not in sync yet"],
  blocked: ["stalled", "✗", "Not in sync, needs you"],
};
const FIRST = 20; // errors that are shown

export class Answer {
  constructor(store, destinations, acts) {
    this.store = store;
    this.destinations = destinations;
    this.acts = acts;
    this.facts = new Keyed(byId("facts"), (name) => {
      const part = { value: el("dd") };
      part.node = el("div", {}, el("dt", { text: name }), part.value);
      return part;
    });
    this.problems = new Keyed(byId("problem-list"), () => ({ node: el("li") }));
    this.approve = el("button", { type: "button", text: "Approve the revision…", onclick: () => acts.approve("revision") });
  }

  show() {
    const { head } = this.store;
    const [state, sign, words] = ANSWERS[head.state] ?? ["busy", "…", printable(head.state)];
    set(byId("answer"), "data-state", state);
    say(byId("answer-mark"), sign);
    say(byId("answer-title"), words);
    const besides = head.inSync ? this.#besides() : printable(head.message);
    say(byId("answer-why"), besides);
    say(byId("said"), `${words}. ${head.inSync ? "" : besides}`.trim()); // told to screen readers when it changes
    document.title = `${sign} ${words.split(",")[0]} – LaneSync`;
    say(byId("agent"), `${head.agent.version} · up ${duration(head.time - head.agent.startedAt)}`);
    this.facts.show(this.#facts(), (part, value) => say(part.value, value));
    say(byId("revision"), this.#revision());
    this.#problems();
  }

  #besides() {
    const all = [...this.store.objects.values()];
    const suspended = all.filter((each) => mark(each) === "suspended").length;
    const drifted = all.filter((each) => each.conditions.some((c) => c.type === "Drifted" && c.status)).length;
    const words = [suspended && `${suspended} suspended`, drifted && `${drifted} changed at a destination`];
    return words.filter(Boolean).join(", ") || "Everything is where the specs say.";
  }

  #facts() {
    const { store } = this;
    const counts = store.counts("Mapping");
    const total = Object.values(counts).reduce((a, b) => a + b, 0);
    const sum = { files: 0, bytes: 0, since: null };
    for (const each of store.of("Mapping")) {
      const one = waiting(each);
      sum.files += one.files;
      sum.bytes += one.bytes;
      if (one.since && (sum.since === null || one.since < sum.since)) sum.since = one.since;
    }
    const sending = store.of("Destination").reduce((all, each) => all + (this.destinations.rate(each.name) ?? 0), 0);
    return [
      ["Mappings in sync", `${number(counts.ready)} of ${number(total)}`],
      ["Backlog", sum.files || sum.bytes ? `${size(sum.bytes)}, ${count(sum.files, "file")}` : "nothing"],
      ["Oldest wait", sum.since ? duration(store.head.time - sum.since) : "–"],
      ["Sending", rate(sending)],
    ];
  }

  #revision() {
    const { revision, source, time } = this.store.head;
    const commits = new Map([source.applied, source.inForce, source.attempted].filter(Boolean).map((c) => [`git:${c.commit}`, c]));
    const shown = (name) => {
      const commit = commits.get(name);
      return printable(commit ? `${name.slice(0, 16)} “${commit.subject}”` : name.slice(0, 24)) || "none yet";
    };
    const words = [`Revision ${shown(revision.applied)} applied`];
    if (revision.attempted && revision.attempted !== revision.applied) words.push(`${shown(revision.attempted)} attempted`);
    if (source.type === "git") {
      const fetched = source.lastFetch ? `, fetched ${ago(time - source.lastFetch)}` : "";
      words.push(`from ${printable(source.ref)} of ${printable(source.url)}${fetched}`);
    } else if (source.paths) words.push(`from ${printable(source.paths.join(", "))}`);
    return `${words.join(" · ")}`;
  }

  #problems() {
    const { head } = this.store;
    const found = [];
    if (head.revision.held) found.push(["held", `A revision is held: ${head.revision.held}`]);
    for (const text of [head.agent.policyError, head.agent.notice]) if (text) found.push([text, text]);
    for (const c of head.source.conditions ?? []) if (c.type === "Stalled" ? c.status : c.type === "Ready" && !c.status) found.push([c.type, c.message]);
    const errors = Object.entries(head.invalid).flatMap(([name, lines]) => lines.map((line) => [`${name} ${line}`, `Invalid ${name}: ${line}`]));
    found.push(...errors.slice(0, FIRST));
    if (errors.length > FIRST) found.push(["more", `… and ${errors.length - FIRST} more errors; lanesync validate shows all`]);
    byId("problems").hidden = !found.length;
    this.problems.show(found, (part, text) => say(part.node, printable(text)));
    if (head.revision.held) byId("problems").append(this.approve);
    else this.approve.remove();
  }
}
