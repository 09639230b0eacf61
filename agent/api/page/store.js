// What is known of the agent, kept up to date by its answers. No DOM.

import { mark } from "./words.js";

const SPAN = 600; // seconds of traffic that are kept
const EVENTS = 200;
const SMOOTH = 0.35; // how much of a transfer's rate the newest second is

export class Store {
  objects = new Map(); // "Kind/name" -> document
  traffic = new Map(); // destination -> {lanes, points}
  events = []; // newest first
  head = null;
  next = "";
  #seen = new Map(); // transfer -> {done, time, rate}

  /** Take an answer; returns the names of the objects that changed, or null: everything may have. */
  take(answer) {
    if (answer.full) {
      this.objects.clear();
      this.traffic.clear();
      this.events = [];
    }
    for (const each of answer.objects) this.objects.set(`${each.kind}/${each.name}`, each);
    for (const name of answer.gone) this.objects.delete(name);
    this.#takeTraffic(answer.traffic, answer.head.time);
    this.#takeEvents(answer.events);
    const moved = this.head === null || this.head.time !== answer.head.time;
    this.head = answer.head;
    this.next = answer.next;
    if (moved) this.#measure();
    return answer.full ? null : answer.objects.map((each) => `${each.kind}/${each.name}`).concat(answer.gone);
  }

  #takeTraffic(fresh, now) {
    for (const name of this.traffic.keys()) if (!(name in fresh)) this.traffic.delete(name);
    for (const [name, { lanes, points }] of Object.entries(fresh)) {
      const before = this.traffic.get(name);
      const same = before && before.lanes.map((l) => l.name).join("\n") === lanes.map((l) => l.name).join("\n");
      const all = same ? before.points.concat(points) : points;
      const first = all.findIndex((p) => p[0] > now - SPAN - 30);
      this.traffic.set(name, { lanes, points: first > 0 ? all.slice(first) : all });
    }
  }

  #takeEvents(fresh) {
    if (!fresh.length) return;
    const known = new Map(this.events.map((event) => [event.seq, event]));
    for (const event of fresh) known.set(event.seq, event);
    this.events = [...known.values()].sort((a, b) => b.seq - a.seq).slice(0, EVENTS);
  }

  of(kind) {
    return [...this.objects.values()].filter((each) => each.kind === kind);
  }

  *deliveries() {
    for (const each of this.objects.values()) for (const delivery of each.deliveries ?? []) yield [each, delivery];
  }

  #measure() {
    const seen = new Map();
    for (const [, delivery] of this.deliveries()) {
      for (const { id, doneBytes: done } of delivery.transfers) {
        const key = `${delivery.destination} ${id}`;
        const before = this.#seen.get(key);
        const elapsed = before ? this.head.time - before.time : 0;
        if (!before || elapsed <= 0 || done < before.done) seen.set(key, { done, time: this.head.time, rate: null });
        else {
          const fresh = (done - before.done) / elapsed;
          const rate = before.rate === null ? fresh : (1 - SMOOTH) * before.rate + SMOOTH * fresh;
          seen.set(key, { done, time: this.head.time, rate: rate < 1 ? 0 : rate });
        }
      }
    }
    this.#seen = seen;
  }

  /** What is on its way, in the order in which the lanes serve it. `rate`: bytes/s, or null. */
  transfers() {
    const found = [];
    for (const [mapping, delivery] of this.deliveries()) {
      for (const t of delivery.transfers) {
        const rate = this.#seen.get(`${delivery.destination} ${t.id}`)?.rate ?? null;
        const left = rate > 0 ? (t.totalBytes - t.doneBytes) / rate : null;
        found.push({ ...t, key: `${delivery.destination} ${t.id}`, mapping: mapping.name, destination: delivery.destination, rate, left });
      }
    }
    const shares = new Map();
    for (const [name, { lanes }] of this.traffic) lanes.forEach((lane, n) => shares.set(`${name}\n${lane.name}`, n));
    const rank = (t) => shares.get(`${t.destination}\n${t.lane}`) ?? 99;
    const order = new Intl.Collator("en", { numeric: true }).compare;
    found.sort((a, b) => order(a.destination, b.destination) || rank(a) - rank(b) || a.priority - b.priority || order(a.id, b.id));
    const queues = new Map();
    for (const t of found) {
      const lane = `${t.destination}\n${t.lane}`;
      t.position = (queues.get(lane) ?? 0) + 1;
      queues.set(lane, t.position);
    }
    for (const t of found) t.of = queues.get(`${t.destination}\n${t.lane}`);
    return found;
  }

  /** How many objects are in which state. */
  counts(kind) {
    const found = { stalled: 0, busy: 0, suspended: 0, ready: 0 };
    for (const each of this.of(kind)) found[mark(each)] += 1;
    return found;
  }
}

/** Files and bytes of one delivery that are not there yet. */
export function backlog(delivery) {
  const bytes = delivery.transfers.reduce((sum, t) => sum + Math.max(0, t.totalBytes - t.doneBytes), 0);
  const sent = delivery.transfers.reduce((sum, t) => sum + t.doneFiles, 0);
  const files = Math.max(0, delivery.filesInFlight - sent) + delivery.settling + delivery.awaitingSentinel;
  return { files, bytes, deletions: delivery.deletionsInFlight };
}

/** Of a mapping: the sums, and since when the oldest has been waiting (Unix seconds or null). */
export function waiting(thing) {
  const found = { files: 0, bytes: 0, deletions: 0, since: null };
  for (const delivery of thing.deliveries ?? []) {
    const one = backlog(delivery);
    found.files += one.files;
    found.bytes += one.bytes;
    found.deletions += one.deletions;
    const since = delivery.oldestPending;
    if (since && (found.since === null || since < found.since)) found.since = since;
  }
  return found;
}
