// Elements without markup: text is only ever text.

/** An element. Attributes that begin with `on` are listeners, `text` is its text. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Write only what differs: a page that stands still costs no layout. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function set(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** These children in this order, moving as few as possible; focus stays where it is. */
export function arrange(parent, nodes) {
  const focused = document.activeElement;
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at !== null) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/** One node for each key, kept as long as its key is there. */
export class Keyed {
  #nodes = new Map();

  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
  }

  /** `items`: [key, value] in order; `update(part, value)` is called for each. */
  show(items, update) {
    const kept = new Map();
    for (const [key, value] of items) {
      const part = this.#nodes.get(key) ?? this.make(key);
      kept.set(key, part);
      update(part, value);
    }
    this.#nodes = kept;
    arrange(this.parent, [...kept.values()].flatMap((part) => part.nodes ?? [part.node]));
  }
}

/** Bars and marks have their place by style properties, which the page's policy allows. */
export function place(node, property, share) {
  const value = `${(Math.max(0, Math.min(1, share)) * 100).toFixed(1)}%`;
  if (node.style.getPropertyValue(property) !== value) node.style.setProperty(property, value);
}
