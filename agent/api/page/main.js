// Looks at the agent once a second while the page is seen, and shows what changed.

import { Actions } from "./actions.js";
import { Answer } from "./answer.js";
import { Destinations } from "./destinations.js";
import { byId, el, say, set } from "./dom.js";
import { Events } from "./events.js";
import { Objects } from "./objects.js";
import { Store } from "./store.js";
import { Transfers } from "./transfers.js";
import { URGENCY, WORDS, clock, mark, number } from "./words.js";

const EVERY = 1000; // milliseconds between looks
const PATIENCE = 15000; // a look that takes longer is given up
const AFTER_FAILURE = [1000, 2000, 5000, 10000];

const store = new Store();
const actions = new Actions(store, () => look());
const destinations = new Destinations(store, actions);
const mappings = new Objects(store, actions, "mapping-rows", true);
const others = new Objects(store, actions, "other-rows", false);
const transfers = new Transfers(store);
const events = new Events(store);
const answer = new Answer(store, destinations, actions);

const wanted = { text: "", state: "" };
let timer = 0;
let looking = false;
let failures = 0;

async function look() {
  clearTimeout(timer);
  if (looking || document.hidden) return;
  looking = true;
  try {
    const found = await fetch(`api/v1/live?since=${encodeURIComponent(store.next)}`, {
      cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE),
    });
    const told = await found.json();
    if (!found.ok) throw new Error(told.error);
    store.take(told);
    failures = 0;
    connected("live", "live");
    show();
  } catch (error) {
    failures += 1;
    const since = store.head ? `, this is how it was at ${clock(store.head.time)}` : "";
    connected("lost", `the agent does not answer${since}`);
    if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
  } finally {
    looking = false;
    timer = setTimeout(look, failures ? AFTER_FAILURE[Math.min(failures, AFTER_FAILURE.length) - 1] : EVERY);
  }
}

function connected(state, text) {
  set(byId("link"), "data-state", state);
  say(byId("link-text"), text);
}

/** Whether the filter lets an object through. */
function fits(each) {
  if (!each) return !wanted.text && !wanted.state;
  return (!wanted.state || mark(each) === wanted.state) && matches(each);
}

const texts = new WeakMap();

function matches(each) {
  if (!wanted.text) return true;
  if (!texts.has(each)) {
    const labels = Object.entries(each.labels ?? {}).map(([key, value]) => `${key}=${value}`);
    const at = (each.deliveries ?? []).map((d) => d.destination);
    const said = each.conditions.map((c) => c.message);
    texts.set(each, [each.kind, "/", each.name, " ", each.address, ...at, ...labels, ...said].join(" ").replace(" / ", "/").toLowerCase());
  }
  const text = texts.get(each);
  return wanted.text.split(/\s+/).every((word) => text.includes(word));
}

function eventFits(event) {
  if (wanted.state && !(event.key && fits(store.objects.get(event.key)))) return false;
  const text = `${event.key ?? "agent"} ${event.reason} ${event.message}`.toLowerCase();
  return wanted.text.split(/\s+/).every((word) => text.includes(word));
}

function show() {
  if (!store.head) return;
  answer.show();
  destinations.show(fits);
  transfers.show(fits);
  const shown = mappings.show(fits);
  const rest = others.show(fits);
  events.show(eventFits);
  counts(shown, rest);
}

function counts(shown, rest) {
  const found = store.counts("Mapping");
  const total = Object.values(found).reduce((a, b) => a + b, 0);
  for (const state of ["", ...URGENCY]) say(byId(`count-${state || "all"}`), number(state ? found[state] : total));
  say(byId("mappings-count"), shown === total ? String(total) : `${shown} of ${total}`);
  byId("mappings-none").hidden = shown > 0;
  say(byId("mappings-none"), total ? "No mapping fits the filter." : "There are no mappings yet.");
  byId("others").hidden = rest === 0;
  say(byId("others-count"), String(rest));
  say(byId("destinations-count"), String(store.of("Destination").filter(fits).length));
}

function filters() {
  for (const state of ["", ...URGENCY]) {
    const input = el("input", { type: "radio", name: "state", value: state, checked: state === "", onchange: () => { wanted.state = state; show(); } });
    const many = el("span", { id: `count-${state || "all"}`, class: "count", text: "0" });
    byId("states").append(el("label", { "data-state": state || "all" }, input, el("span", { text: state ? WORDS[state] : "All" }), many));
  }
  byId("filter").addEventListener("input", (event) => { wanted.text = event.target.value.trim().toLowerCase(); show(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("filter").focus();
    }
  });
}

filters();
document.addEventListener("visibilitychange", look);
look();
