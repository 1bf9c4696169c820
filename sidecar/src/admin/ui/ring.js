// The ring as a drawing: members where their ids are, and the way of a look-up.

import { byId, element, mark, shape } from "./dom.js";
import { SIGNS, STATES, sign } from "./members.js";
import * as units from "./units.js";

// On a phone it is drawn smaller, so that its words are not.
const phone = window.matchMedia("(max-width: 460px)");
const SIZE = phone.matches ? { width: 340, height: 250 } : { width: 460, height: 316 };
const CENTRE = { x: SIZE.width / 2, y: SIZE.height / 2 };
const RADIUS = phone.matches ? 78 : 124;
/** With more members their names are in the table only. */
const MOST_NAMES = 24;
/** Between two names. */
const LINE = 15;

let drawing = null;
let last = null;
let way = null;

/** Part of the circle, 0 to 1, at which an id of 16 hexadecimal digits is. */
export const place = (id) => Number(BigInt(`0x${id}`) >> 11n) / 2 ** 53;

function point(part, radius = RADIUS) {
  const angle = part * 2 * Math.PI;
  return { x: CENTRE.x + radius * Math.sin(angle), y: CENTRE.y - radius * Math.cos(angle) };
}

const fixed = (number) => number.toFixed(1);

function marker(member) {
  const { x, y } = point(place(member.id));
  const title = shape("title", {}, `${member.name}: ${member.state}, ${units.percent(member.share)}`);
  const at = { class: `member state-${member.state}` };
  const [l, r, t, b] = [x - 7, x + 7, y - 7, y + 7].map(fixed);
  const [cx, cy] = [fixed(x), fixed(y)];
  const shapes = {
    live: () => shape("circle", { ...at, cx, cy, r: 6 }, title),
    joining: () => shape("circle", { ...at, cx, cy, r: 6 }, title),
    suspected: () => shape("path", { ...at, d: `M${cx} ${t}L${r} ${b}H${l}Z` }, title),
    leaving: () => shape("path", { ...at, d: `M${cx} ${t}L${r} ${cy}L${cx} ${b}L${l} ${cy}Z` }, title),
    dead: () => shape("path", { ...at, d: `M${l} ${t}L${r} ${b}M${l} ${b}L${r} ${t}` }, title),
  };
  return (shapes[member.state] ?? shapes.live)();
}

/** Names beside the circle, pushed apart where they would touch. */
function names(members) {
  const sides = { right: [], left: [] };
  for (const member of members) {
    const part = place(member.id);
    const at = point(part, RADIUS + 16);
    sides[part < 0.5 ? "right" : "left"].push({ member, at, part, y: at.y });
  }
  return Object.entries(sides).flatMap(([side, labels]) => {
    labels.sort((a, b) => a.at.y - b.at.y);
    const room = { from: 12, to: SIZE.height - 8 };
    let least = room.from;
    for (const label of labels) {
      label.y = Math.max(label.at.y, least);
      least = label.y + LINE;
    }
    let most = room.to;
    for (const label of [...labels].reverse()) {
      label.y = Math.min(label.y, most);
      most = label.y - LINE;
    }
    return labels.flatMap((label) => name(label, side));
  });
}

function name({ member, at, part, y }, side) {
  const x = side === "right" ? Math.max(at.x, CENTRE.x + 30) : Math.min(at.x, CENTRE.x - 30);
  const from = point(part, RADIUS + 9);
  const anchor = side === "right" ? "start" : "end";
  const shown = member.name.length > 14 ? `${member.name.slice(0, 6)}…${member.name.slice(-7)}` : member.name;
  const sentence = member.state === "live" ? units.percent(member.share) : sign(member.state);
  const pushed = Math.abs(y - at.y) > 2;
  const line = pushed
    ? shape("path", { class: "leader", d: `M${fixed(from.x)} ${fixed(from.y)}L${fixed(x)} ${fixed(y)}` })
    : null;
  const text = shape("text", {
    x: fixed(x + (side === "right" ? 3 : -3)), y: fixed(y + 4), "text-anchor": anchor,
    class: `name state-${member.state}`,
  }, shown, shape("tspan", { class: "share", dx: 6 }, sentence));
  return line ? [line, text] : [text];
}

/** The way of a look-up: where the key is, and from member to member to its owner. */
function path(members) {
  if (!way) return [];
  const found = (name) => members.find((member) => member.name === name);
  const stops = way.route.map(found).filter(Boolean).map((member) => point(place(member.id), RADIUS - 9));
  const steps = stops.slice(1).map((to, at) => {
    const from = stops[at];
    return shape("path", {
      class: "step", "marker-end": "url(#arrow)",
      d: `M${fixed(from.x)} ${fixed(from.y)}L${fixed(to.x)} ${fixed(to.y)}`,
    });
  });
  const part = place(way.key.slice(0, 16));
  const [outer, inner] = [point(part, RADIUS + 12), point(part, RADIUS - 12)];
  const key = shape("path", {
    class: "key-place", d: `M${fixed(outer.x)} ${fixed(outer.y)}L${fixed(inner.x)} ${fixed(inner.y)}`,
  }, shape("title", {}, "the key's place"));
  const label = point(part, RADIUS - 26);
  const word = shape("text", {
    class: "key-name", x: fixed(label.x), y: fixed(label.y + 4), "text-anchor": "middle",
  }, "key");
  const owner = found(way.owners[0]);
  const at = owner && point(place(owner.id));
  const halo = at ? [shape("circle", { class: "owner", cx: fixed(at.x), cy: fixed(at.y), r: 11 })] : [];
  return [...steps, key, word, ...halo];
}

function arrow() {
  return shape("defs", {}, shape("marker", {
    id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 4.5, markerHeight: 4.5, orient: "auto-start-reverse",
  }, shape("path", { class: "arrow", d: "M0 0L8 4L0 8Z" })));
}

function legend() {
  const items = Object.entries(STATES).map(([state, meaning]) => element("li", {},
    element("span", { class: `state-${state}` }, SIGNS[state]), ` ${state}: ${meaning}`));
  byId("legend").replaceChildren(...items);
}

/** Draws the ring, if it has changed. */
export function draw(snapshot) {
  const members = snapshot.members;
  const now = JSON.stringify([members.map((m) => [m.id, m.state, m.share]), way]);
  if (now === last) return;
  last = now;
  if (!drawing) {
    drawing = shape("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", class: "ring" });
    byId("ring").replaceChildren(drawing);
    legend();
  }
  const counts = Object.keys(STATES).map((state) => [members.filter((m) => m.state === state).length, state]);
  const said = counts.filter(([n]) => n > 0).map(([n, state]) => `${n} ${state}`).join(", ");
  mark(drawing, "aria-label", `The ring: ${said}. The table of members has the same.`);
  const circle = shape("circle", { class: "circle", cx: CENTRE.x, cy: CENTRE.y, r: RADIUS });
  const many = members.length > MOST_NAMES;
  const middle = shape("text", { class: "middle", x: CENTRE.x, y: CENTRE.y + 4, "text-anchor": "middle" },
    way ? "" : units.counted(members.filter((m) => m.state !== "dead").length, "member"));
  drawing.replaceChildren(arrow(), circle, middle, ...path(members), ...members.map(marker),
    ...(many ? [] : names(members)));
}

/** From now on the way of this explanation is drawn; `null`: none. */
export function show(explanation, snapshot) {
  way = explanation;
  if (snapshot) draw(snapshot);
}
