// A purge and its receipt.

import { purge } from "./ask.js";
import { byId, element, say } from "./dom.js";
import * as units from "./units.js";

const LABELS = { url: "URL", prefix: "URL that they begin with", tag: "Tag", host: "Host", all: "" };

let members = 0;

/** What of the cluster matters here. */
export function draw(snapshot) {
  members = snapshot.asked;
  const box = byId("purge-token-box");
  if (box.hidden === snapshot.needs_token) box.hidden = !snapshot.needs_token;
}

function choose() {
  const what = byId("purge-what").value;
  const value = byId("purge-value");
  byId("purge-value-box").hidden = what === "all";
  value.required = what !== "all";
  value.type = what === "url" || what === "prefix" ? "url" : "text";
  say(byId("purge-label"), LABELS[what]);
}

function receipt(got) {
  const pair = (term, text) => [element("dt", {}, term), element("dd", {}, text)];
  const missing = got.unreachable.length > 0;
  const verdict = missing
    ? `Purged, but ${units.counted(got.unreachable.length, "member")} did not acknowledge it`
    : "Purged on every member";
  const unreachable = `${got.unreachable.join(", ")}: will learn of it before serving again`;
  return [
    element("p", { class: missing ? "verdict miss" : "verdict hit" }, element("b", {}, verdict)),
    element("dl", {},
      ...pair("Scope", `${got.scope} (${got.kind})`),
      ...pair("Generation", units.count(got.generation)),
      ...pair("Acknowledged", `${got.acknowledged.length} of ${units.counted(got.asked.length, "other member")}` +
        (got.acknowledged.length > 0 ? `: ${got.acknowledged.join(", ")}` : "")),
      ...(missing ? pair("Unreachable", unreachable) : [])),
  ];
}

/** Asks before everything goes. */
function confirmed() {
  const dialog = byId("confirm");
  say(byId("confirm-text"), `What ${units.counted(members, "member")} stored counts as stale: the origins ` +
    "are asked again for everything, at once.");
  return new Promise((resolve) => {
    let answer = false;
    const yes = () => {
      answer = true;
      dialog.close();
    };
    const no = () => dialog.close();
    byId("confirm-yes").addEventListener("click", yes);
    byId("confirm-no").addEventListener("click", no);
    dialog.addEventListener("close", () => {
      byId("confirm-yes").removeEventListener("click", yes);
      byId("confirm-no").removeEventListener("click", no);
      resolve(answer);
    }, { once: true });
    dialog.showModal();
  });
}

/** Carries out what the form asks for. */
export function start() {
  const place = byId("receipt");
  byId("purge-what").addEventListener("change", choose);
  choose();
  byId("purge-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const what = byId("purge-what").value;
    if (what === "all" && !(await confirmed())) {
      place.replaceChildren(element("p", { class: "empty" }, "Nothing was purged."));
      return;
    }
    place.setAttribute("aria-busy", "true");
    try {
      const value = byId("purge-value").value.trim();
      const got = await purge(what, value, byId("purge-hard").checked, byId("purge-token").value);
      place.replaceChildren(...receipt(got));
    } catch (error) {
      place.replaceChildren(element("p", { class: "failure" }, `Not purged. ${error.message}`));
    }
    place.removeAttribute("aria-busy");
  });
}

/** Puts a URL into the form; the operator decides. */
export function offer(url) {
  byId("purge-what").value = "url";
  choose();
  byId("purge-value").value = url;
  byId("purge-title").scrollIntoView({ block: "start" });
  byId("purge-value").focus({ preventScroll: true });
}
