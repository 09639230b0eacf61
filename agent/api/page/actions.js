// What a person may ask the agent to do. Each call carries the token in a header, so no other page can make
// it; the token lives in this tab's session and nowhere else.

import { byId, el, say, set } from "./dom.js";
import { MARKS, count, mark, needsApproval, printable } from "./words.js";

const TOKEN = "lanesync-token";
const AUTHOR = "lanesync-author";
const STAYS = 8000; // milliseconds

export class Actions {
  #shown = new WeakMap();

  constructor(store, look) {
    this.store = store;
    this.look = look;
    byId("reconcile-all").addEventListener("click", () => this.run("reconcile", { name: "" }, "Everything will be looked at"));
  }

  /** The buttons that fit an object's state; made anew only when they differ. */
  buttons(parent, each) {
    const name = `${each.kind}/${each.name}`;
    const may = ["Mapping", "Destination"].includes(each.kind);
    const held = each.suspension?.local;
    const found = [];
    if (each.kind === "Mapping" && needsApproval(each)) found.push(["Approve…", () => this.approve(name)]);
    if (!each.suspension && mark(each) !== "suspended") found.push(["Reconcile", () => this.run("reconcile", { name }, `${name} will be looked at`)]);
    if ((each.deliveries ?? []).some((d) => d.failuresInARow > 0)) found.push(["Retry now", () => this.run("retry", { name }, `${name} is tried again`)]);
    if (may && held) found.push(["Resume", () => this.run("resume", { name }, `${name} goes on`)]);
    else if (may) found.push(["Suspend…", () => this.suspend(name)]);
    const wanted = found.map(([label]) => label).join("\n");
    if (this.#shown.get(parent) === wanted) return;
    this.#shown.set(parent, wanted);
    parent.replaceChildren(...found.map(([label, onclick]) =>
      el("button", { type: "button", onclick, text: label, "aria-label": `${label.replace("…", "")} ${printable(name)}` })));
  }

  async suspend(name) {
    say(byId("suspend-title"), `Suspend ${printable(name)}`);
    if (!(await asked("suspend-dialog", "suspend-reason"))) return;
    const seconds = byId("suspend-seconds").value;
    const order = { name, reason: byId("suspend-reason").value, seconds: seconds ? Number(seconds) : null };
    byId("suspend-reason").value = "";
    await this.run("suspend", order, `${name} is suspended`);
  }

  async approve(name) {
    const each = this.store.objects.get(name);
    const held = (each?.deliveries ?? []).reduce((sum, d) => sum + d.heldDeletions, 0);
    say(byId("approve-title"), name === "revision" ? "Approve the revision" : `Approve ${printable(name)}`);
    const what = held ? `${count(held, "file")} will be deleted at the destination.` : "What is gone at the source may be deleted at the destination.";
    say(byId("approve-text"), name === "revision" ? printable(this.store.head.revision.held) : `${what} Look with “lanesync plan” which they are. This lets through what is held now, and nothing later.`);
    say(byId("approve-yes"), held ? `Delete ${count(held, "file")}` : "Approve");
    if (await asked("approve-dialog")) await this.run("approve", { name }, `${name} is approved`);
  }

  /** Ask the agent; `done` is said when it agreed. */
  async run(route, order, done) {
    let problem = "";
    for (;;) {
      const token = problem ? null : sessionStorage.getItem(TOKEN);
      if (!token && !(await this.#askToken(problem))) return;
      const answer = await post(route, order);
      if (answer.status === 401) {
        sessionStorage.removeItem(TOKEN);
        problem = "The agent does not know that token.";
        continue;
      }
      toast(answer.error ? `${answer.error}` : `${done}.`, Boolean(answer.error));
      this.look();
      return;
    }
  }

  async #askToken(problem) {
    say(byId("token-error"), problem);
    say(byId("token-file"), `${printable(this.store.head?.agent.stateDir ?? "")}/token`);
    byId("author").value = sessionStorage.getItem(AUTHOR) ?? "";
    if (!(await asked("token-dialog", "token"))) return false;
    sessionStorage.setItem(TOKEN, byId("token").value.trim());
    sessionStorage.setItem(AUTHOR, byId("author").value.trim());
    byId("token").value = "";
    return true;
  }
}

async function post(route, order) {
  const author = sessionStorage.getItem(AUTHOR);
  try {
    const answer = await fetch(`api/v1/${route}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}`, "Content-Type": "application/json" },
      body: JSON.stringify(author ? { ...order, author } : order),
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
    });
    const told = await answer.json().catch(() => ({}));
    return { status: answer.status, error: answer.ok ? "" : told.error || `The agent answered with ${answer.status}.` };
  } catch {
    return { status: 0, error: "The agent could not be reached; nothing was changed." };
  }
}

/** A dialog: true when it was confirmed. */
function asked(id, focus) {
  const dialog = byId(id);
  const form = dialog.querySelector("form");
  return new Promise((resolve) => {
    const end = (event) => {
      const yes = event?.type === "submit";
      if (yes) event.preventDefault();
      form.removeEventListener("submit", end);
      dialog.removeEventListener("close", end);
      dialog.querySelector("[data-cancel]").onclick = null;
      if (dialog.open) dialog.close();
      resolve(yes);
    };
    form.addEventListener("submit", end);
    dialog.addEventListener("close", end);
    dialog.querySelector("[data-cancel]").onclick = () => dialog.close();
    dialog.showModal();
    if (focus) byId(focus).focus();
  });
}

function toast(text, wrong) {
  const made = el("p", { class: wrong ? "toast wrong" : "toast" }, el("span", { "aria-hidden": "true", text: wrong ? MARKS.stalled : MARKS.ready }), ` ${printable(text)}`);
  byId("toasts").append(made);
  setTimeout(() => made.remove(), STAYS);
}
