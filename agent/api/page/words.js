// Numbers, times and names as people read them. Pure.

export const WORDS = { ready: "In sync", busy: "On its way", stalled: "Needs you", suspended: "Suspended" };
export const MARKS = { ready: "✓", busy: "↻", stalled: "✗", suspended: "‖" };
export const URGENCY = ["stalled", "busy", "suspended", "ready"];

// Control characters, marks that turn the direction of text, and bytes that are not UTF-8.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Surrogate}/gu;

/** Text that says what it is: nothing in it is invisible, or changes how the rest is read. */
export function printable(text) {
  return String(text ?? "").replace(UNPRINTABLE, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

export function size(count) {
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${unit === "B" ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

/** `kbps`: kilobits per second. */
export function rate(kbps) {
  for (const [unit, factor] of [["Gbit/s", 1e6], ["Mbit/s", 1e3]]) {
    if (kbps >= factor) return `${short(kbps / factor)} ${unit}`;
  }
  return `${short(kbps)} kbit/s`;
}

const short = (value) => (value >= 100 || value === 0 ? value.toFixed(0) : value.toPrecision(value < 1 ? 2 : 3));

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s < 600 && s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Coarser, so that it stands still. */
export function ago(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return "now";
  if (s < 60) return `${Math.floor(s / 10) * 10} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

// Made once: making one takes longer than using it a thousand times.
const MOMENT = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const CLOCK = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const NUMBER = new Intl.NumberFormat("en");

export const moment = (time) => MOMENT.format(time * 1000);
export const clock = (time) => CLOCK.format(time * 1000);
export const number = (value) => NUMBER.format(value);
export const count = (number, noun) => `${NUMBER.format(number)} ${noun}${number === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(share * 100)} %`;

export function ordinal(number) {
  const last = number % 100 > 10 && number % 100 < 14 ? 0 : number % 10;
  return `${number}${["th", "st", "nd", "rd"][last] ?? "th"}`;
}

const isTrue = (thing, type) => thing.conditions.some((c) => c.type === type && c.status);

/** Which of the four states an object is in. */
export function mark(thing) {
  if (isTrue(thing, "Suspended")) return "suspended";
  if (isTrue(thing, "Stalled")) return "stalled";
  return isTrue(thing, "Ready") ? "ready" : "busy";
}

/** What an object has to say: the message of the condition that matters. */
export function why(thing) {
  for (const type of ["Suspended", "Stalled", "Ready"]) {
    const found = thing.conditions.find((c) => c.type === type && (type === "Ready" || c.status));
    if (found) return printable(found.message || (found.status && type === "Ready" ? "" : found.reason));
  }
  return "";
}

/** What does not keep it from working, and should be known. */
export function notes(thing) {
  return thing.conditions
    .filter((c) => ["WatchDegraded", "Limited", "Drifted"].includes(c.type) && c.status)
    .map((c) => printable(c.message));
}

/** Held deletions wait for approval; of a suspect source the message says whether approving is a way out. */
export const needsApproval = (thing) =>
  (thing.deliveries ?? []).some((d) => d.heldDeletions > 0) ||
  thing.conditions.some((c) => c.status && c.type === "Stalled" && c.reason === "SourceSuspect" && c.message.includes("lanesync approve"));
