// A URL explained: where it lives, the way to it, and why the next request is a hit or a miss.

import { explain } from "./ask.js";
import { byId, element, row, say, table } from "./dom.js";
import * as units from "./units.js";

const COLUMNS = [
  ["Status", "number"],
  ["Selected by", ""],
  ["Bytes", "number"],
  ["Age", "number"],
  ["Lifetime", "number"],
  ["Left", "number"],
  ["Entity tag", ""],
];

const pair = (term, text) => [element("dt", {}, term), element("dd", {}, text)];

function owners([owner, ...replicas]) {
  if (!owner) return "unknown";
  return replicas.length === 0 ? owner : `${owner}; in its place ${replicas.join(", then ")}`;
}

function route(explanation) {
  const { route } = explanation;
  if (route.length === 0) return "unknown";
  if (route.length === 1) return `${route[0]}: the asked node is the owner`;
  return `${route.join(" → ")} (${units.counted(route.length - 1, "hop")})`;
}

function variants(list) {
  const { all, body } = table("Stored responses", COLUMNS);
  for (const one of list) {
    const tr = row(COLUMNS);
    const cells = [
      one.status, one.selecting.join("; ") || "nothing", units.bytes(one.length),
      `${units.count(one.age)} s`, `${units.count(one.lifetime)} s`, `${units.count(one.ttl)} s`,
      one.etag ?? "–",
    ];
    cells.forEach((text, at) => say(tr.children[at], String(text)));
    body.append(tr);
  }
  return all;
}

function shown(explanation, purge) {
  const hit = explanation.next === "hit";
  const verdict = element("p", { class: hit ? "verdict hit" : "verdict miss" },
    element("b", {}, hit ? "Next: hit" : `Next: ${explanation.next}`), ` — ${explanation.because}`);
  const list = element("dl", {},
    ...pair("URL", explanation.url),
    ...pair("Key", explanation.key),
    ...pair("Home", explanation.home || "unknown"),
    ...pair("Owner", owners(explanation.owners)),
    ...pair("Way", route(explanation)),
    ...(explanation.hot_copy ? pair("Hot copy", explanation.node) : []),
    ...(explanation.filling ? pair("Fill", "under way at the owner") : []),
    ...(explanation.uncacheable ? pair("Remembered", "the last response could not be shared") : []),
    ...(explanation.variants.length === 0 ? pair("Stored", "nothing") : []));
  const button = element("button", { type: "button" }, "Purge this URL…");
  button.addEventListener("click", () => purge(explanation.url));
  const stored = explanation.variants.length > 0 ? variants(explanation.variants) : null;
  return [verdict, list, stored, button].filter(Boolean);
}

/** Explains what the form asks for. `found(explanation)` hears of it; `purge(url)` is offered. */
export function start(found, purge) {
  const place = byId("explanation");
  byId("explain-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    place.setAttribute("aria-busy", "true");
    try {
      const explanation = await explain(byId("explain-url").value.trim());
      place.replaceChildren(...shown(explanation, purge));
      found(explanation);
    } catch (error) {
      place.replaceChildren(element("p", { class: "failure" }, `Not explained. ${error.message}`));
      found(null);
    }
    place.removeAttribute("aria-busy");
  });
}

/** Explains this URL, as if it had been typed. */
export function ask(url) {
  byId("explain-url").value = url;
  byId("explain-form").requestSubmit();
  byId("explain-title").scrollIntoView({ block: "start" });
  byId("explain-url").focus({ preventScroll: true });
}
