// The page: one event a second of the whole cluster, and two forms.

import { follow } from "./ask.js";
import * as charts from "./charts.js";
import { byId, element, keep, row, say, shape, table } from "./dom.js";
import * as explain from "./explain.js";
import * as members from "./members.js";
import * as purge from "./purge.js";
import * as ring from "./ring.js";
import * as units from "./units.js";

const HOT_COLUMNS = [["Share", "number share"], ["", "bar"], ["URL", "url"], ["", "action"]];

let snapshot = null;
let hot = null;

function hotRow(key) {
  const tr = row(HOT_COLUMNS);
  const fill = shape("rect", { width: 0, height: 6, class: "fill" });
  tr.children[1].append(shape("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    shape("rect", { width: 100, height: 6, class: "track" }), fill));
  // Of a query there is only a digest: that URL can't be asked about.
  if (!key.url.includes("?#") && !key.url.endsWith("…")) {
    const button = element("button", { type: "button", class: "small", "aria-label": `Explain ${key.url}` }, "Explain");
    button.addEventListener("click", () => explain.ask(key.url));
    tr.children[3].append(button);
  }
  return tr;
}

function drawHot(keys) {
  if (!hot) {
    hot = table("Hot keys", HOT_COLUMNS);
    hot.all.classList.add("hot");
    byId("hot").append(hot.all);
  }
  keep(hot.body, keys.slice(0, 10), (key) => key.url, hotRow, (tr, key) => {
    say(tr.children[0], units.percent(key.share));
    tr.children[1].querySelector(".fill").setAttribute("width", (key.share * 100).toFixed(1));
    say(tr.children[2], key.url);
  });
  hot.all.hidden = keys.length === 0;
  byId("no-hot").hidden = keys.length > 0;
}

function connection({ node, asked, answered, members: all, version }) {
  const silent = all.filter((one) => one.why !== null && one.state !== "dead");
  const names = silent.slice(0, 5).map((one) => `${one.name} (${one.why})`);
  if (silent.length > 5) names.push(`${silent.length - 5} more`);
  const missing = silent.length > 0 ? `; not ${names.join(", ")}` : "";
  return `Live from ${node}, koorde ${version}: ${answered} of ${units.counted(asked, "member")} answered${missing}`;
}

const status = byId("connection");
let troubled = false;

follow((news) => {
  snapshot = news;
  charts.draw(news, performance.now() / 1000);
  members.draw(news);
  ring.draw(news);
  purge.draw(news);
  drawHot(news.hot_keys);
  say(status, connection(news));
  status.className = news.answered < news.asked ? "partly" : "good";
}, (trouble) => {
  if (trouble !== null) {
    say(status, trouble);
    status.className = "bad";
  }
  if (troubled !== (trouble !== null)) {
    troubled = trouble !== null;
    document.body.classList.toggle("old", troubled);
  }
});
explain.start((explanation) => ring.show(explanation, snapshot), purge.offer);
purge.start();
