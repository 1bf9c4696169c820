// Elements with text in them. What comes from the network only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A new element. Children are elements or strings. */
export const element = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

/** The same, of a drawing. */
export const shape = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/** Sets a text, if it is another: whoever reads along hears only of changes. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute, if it is another. */
export function mark(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Brings the children of `parent` in line with `items`, by key: what stays keeps its element, and so
 * its focus. `make(item)` makes one, `update(node, item)` fills it.
 */
export function keep(parent, items, key, make, update) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let before = null;
  for (const item of items) {
    const name = key(item);
    let node = old.get(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    old.delete(name);
    update(node, item);
    const next = before ? before.nextElementSibling : parent.firstElementChild;
    if (next !== node) parent.insertBefore(node, next);
    before = node;
  }
  for (const node of old.values()) node.remove();
}

/** A table with a caption for those who do not see it; `columns`: [title, class] each. */
export function table(caption, columns) {
  const head = columns.map(([title, kind]) =>
    element("th", { scope: "col", class: kind, role: "columnheader" }, title));
  const body = element("tbody", { role: "rowgroup" });
  const all = element("table", { role: "table" },
    element("caption", { class: "unseen" }, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
    body);
  return { all, body };
}

/** A row of such a table, its cells empty. On a phone each cell says its column's title. */
export const row = (columns) => element("tr", { role: "row" }, ...columns.map(([title, kind]) =>
  element("td", { class: kind, role: "cell", "data-title": title })));
