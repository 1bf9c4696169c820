// The members as a table, and what became of them since the page was opened.

import { byId, element, keep, mark, row, say, table } from "./dom.js";
import * as units from "./units.js";

/** A sign for each state, so that none is told by its colour alone. */
export const SIGNS = { live: "●", joining: "◐", suspected: "▲", leaving: "◇", dead: "✕" };
/** What the states mean. */
export const STATES = {
  live: "answers",
  joining: "has not met its ring yet",
  suspected: "did not answer in time",
  leaving: "says that it is leaving",
  dead: "was declared dead in the last minute",
};
const MOST_CHANGES = 20;

const COLUMNS = [
  ["Member", "wide"],
  ["State", ""],
  ["Share", "number"],
  ["Requests/s", "number"],
  ["Hit ratio", "number"],
  ["p99", "number"],
  ["Origin/s", "number"],
  ["Stored", "number"],
  ["Memory", "number"],
  ["Round trip", "number"],
  ["Runs for", "number"],
];

let shown = null;
let known = null;

/** A state's sign and word. */
export const sign = (state) => `${SIGNS[state] ?? "?"} ${state}`;

function cells(member, node) {
  const { lately, total } = member;
  const tells = member.why === null;
  return [
    member.name === node ? `${member.name} (asked)` : member.name,
    sign(member.state),
    member.state === "dead" ? "–" : units.percent(member.share),
    units.rate(lately.requests),
    units.percent(lately.hit_ratio),
    units.seconds(lately.p99),
    units.rate(lately.origin),
    tells ? units.bytes(total.stored_bytes) : "–",
    tells ? units.bytes(total.resident_bytes) : "–",
    member.round_trip_ms === null ? "–" : units.seconds(member.round_trip_ms / 1000),
    units.span(member.uptime),
  ];
}

/** Shows the members. */
export function draw(snapshot) {
  if (!shown) {
    shown = table("Members of the ring", COLUMNS);
    shown.all.classList.add("members");
    byId("members").append(shown.all);
  }
  keep(shown.body, snapshot.members, (one) => one.id, () => row(COLUMNS), (tr, member) => {
    cells(member, snapshot.node).forEach((text, at) => say(tr.children[at], text));
    mark(tr, "class", `state-${member.state}`);
    const why = member.why ? `${member.address}: ${member.why}` : member.address;
    mark(tr, "title", why);
  });
  byId("no-members").hidden = snapshot.members.length > 0;
  changes(snapshot.members);
}

function changes(members) {
  const now = new Map(members.map((one) => [one.id, one]));
  if (known !== null) {
    for (const [id, one] of now) {
      const before = known.get(id);
      if (!before) note(one, `${sign(one.state)} (new)`);
      else if (before.state !== one.state) note(one, `${sign(before.state)} → ${sign(one.state)}`);
    }
    for (const [id, one] of known) {
      if (!now.has(id)) note(one, one.state === "dead" ? "forgotten" : "left");
    }
  }
  known = now;
}

function note(member, text) {
  const time = new Date().toLocaleTimeString("en-GB");
  const why = member.why && member.state === "suspected" ? `: ${member.why}` : "";
  const list = byId("changes");
  list.prepend(element("li", {},
    element("time", {}, time), " ", element("b", {}, member.name), ` ${text}${why}`));
  while (list.children.length > MOST_CHANGES) list.lastElementChild.remove();
  byId("no-changes").hidden = true;
}
