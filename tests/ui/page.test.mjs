// The page in a real Chromium, over real nodes.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

import { cluster, eventually, get, origin, start } from "./nodes.mjs";

const shots = process.env.KOORDE_SHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TOKEN = "a token of the page's tests".replaceAll(" ", "-");

let browser;
let pages;
let ring;
let load;

before(async () => {
  if (shots) mkdirSync(shots, { recursive: true });
  browser = await chromium.launch({
    executablePath: process.env.KOORDE_CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  pages = await origin();
  ring = await cluster(5);
  // Some traffic all the while: few keys often, many seldom, one that can't be had.
  let n = 0;
  load = setInterval(() => {
    for (let k = 0; k < 4; k += 1) {
      n += 1;
      const alive = ring.nodes.filter(({ child }) => child.exitCode === null && child.signalCode === null);
      const node = alive[n % alive.length];
      const rank = Math.floor(40 * (((n * 7919) % 997) / 997) ** 3);
      const path = n % 97 === 0 ? `/new/${n}` : `/page/${rank}?session=${rank}`;
      get(node, pages.base + (rank < 6 ? `/page/${rank}` : path)).catch(() => {});
    }
  }, 40);
});

after(async () => {
  clearInterval(load);
  await browser?.close();
  await ring?.stop();
  pages?.stop();
});

/** The page, and all that went wrong in it. */
async function open(node, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  const elsewhere = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(node.admin) && !url.startsWith("data:")) elsewhere.push(url);
  });
  await page.goto(`${node.admin}/ui`);
  await page.waitForSelector("table.members tbody tr");
  return {
    page,
    close: async () => {
      await context.close();
      assert.deepEqual(wrong, [], "the console is empty, and the policy was never broken");
      assert.deepEqual(elsewhere, [], "nobody else is asked");
    },
  };
}

const text = (page, selector) => page.locator(selector).innerText();

async function shoot(page, name, options = { fullPage: true }) {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`), ...options });
}

test("the ring is drawn with every member, its share and its state", async () => {
  const { page, close } = await open(ring.nodes[1]);
  await eventually("all answered", async () => (await text(page, "#connection")).includes("5 of 5 members answered"));
  assert.equal(await page.locator("svg.ring circle.member.state-live").count(), 5);
  const names = await page.locator("svg.ring text.name").allTextContents();
  for (const { name } of ring.nodes) assert.ok(names.some((one) => one.includes(name)), `${name} in ${names}`);
  const rows = await page.locator("table.members tbody tr").allInnerTexts();
  assert.equal(rows.length, 5);
  for (const row of rows) assert.match(row, /● live\s+20\.0 %/);
  // Members are where their ids say: clockwise from the top.
  const places = await page.evaluate(() => [...document.querySelectorAll("table.members tbody tr")]
    .map((tr) => tr.dataset.key));
  assert.deepEqual(places, [...places].sort());
  await close();
});

test("numbers of the whole cluster come by themselves, and hot keys hide their queries", async () => {
  const { page, close } = await open(ring.nodes[0]);
  await eventually("requests are counted", async () => /[1-9]/.test(await page.locator(".chart .value").first().innerText()));
  await eventually("a line is drawn", async () => (await page.locator(".chart .curve").first().getAttribute("d")).includes("L"));
  await eventually("hot keys are there", async () => (await page.locator("table.hot tbody tr").count()) >= 5);
  const hot = await text(page, "#hot");
  assert.ok(hot.includes("/page/0"), hot);
  assert.ok(!hot.includes("session"), hot);
  await close();
});

test("a URL is explained with its way to the owner, and purged with a receipt", async () => {
  const url = `${pages.base}/page/0`;
  await get(ring.nodes[2], url);
  // From a node that does not own it, so that there is a way.
  const explained = await (await fetch(`${ring.nodes[0].admin}/debug/explain?url=${encodeURIComponent(url)}`)).json();
  const asked = ring.nodes.find(({ name }) => !explained.owners.includes(name));
  const { page, close } = await open(asked);
  await page.fill("#explain-url", url);
  await page.click("#explain-form button");
  await page.waitForSelector("#explanation .verdict");
  const said = await text(page, "#explanation");
  assert.match(said, /Next: hit/);
  assert.ok(said.includes(`${asked.name} → ${explained.owners[0]}`), said);
  assert.equal(await page.locator("svg.ring .step").count(), 1);
  assert.equal(await page.locator("svg.ring .owner").count(), 1);
  await shoot(page, "explained");
  await page.click("#explanation button");
  assert.equal(await page.inputValue("#purge-value"), url);
  // It is fresh for ten minutes: without a purge nobody asks for it again.
  const before = pages.asked.filter((path) => path === "/page/0").length;
  await page.click("#purge-form button");
  await page.waitForSelector("#receipt .verdict");
  const receipt = await text(page, "#receipt");
  assert.match(receipt, /Purged on every member/);
  assert.match(receipt, /4 of 4 other members/);
  await get(asked, url);
  assert.ok(pages.asked.filter((path) => path === "/page/0").length > before, "the origin is asked again");
  await close();
});

test("everything is purged only after a second word", async () => {
  const { page, close } = await open(ring.nodes[0]);
  await page.selectOption("#purge-what", "all");
  await page.click("#purge-form button");
  await page.waitForSelector("#confirm[open]");
  await shoot(page, "confirm", {});
  await page.keyboard.press("Escape");
  await eventually("nothing happened", async () => (await text(page, "#receipt")).includes("Nothing was purged"));
  await page.click("#purge-form button");
  await page.click("#confirm-yes");
  await eventually("the receipt", async () => /all \(soft\)/.test(await text(page, "#receipt")));
  await close();
});

test("hostile text stays text", async () => {
  const evil = `${pages.base}/%3Cimg%20src=x%20onerror=alert(1)%3E/'"--><script>alert(1)</script>`;
  for (let n = 0; n < 300; n += 1) await get(ring.nodes[3], evil);
  const { page, close } = await open(ring.nodes[3]);
  page.on("dialog", () => assert.fail("a script ran"));
  await eventually("it is shown", async () => (await text(page, "#hot")).includes("onerror"));
  await page.fill("#explain-url", evil);
  await page.click("#explain-form button");
  await page.waitForSelector("#explanation .verdict");
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.locator("main script").count(), 0);
  await close();
});

test("the keyboard alone is enough", async () => {
  const { page, close } = await open(ring.nodes[0]);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
  const shown = () => page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the content");
  const tab = async (id) => {
    for (let n = 0; n < 40 && (await focused()) !== id; n += 1) await page.keyboard.press("Tab");
    assert.equal(await focused(), id);
    assert.ok(await shown(), `the focus on ${id} is seen`);
  };
  await tab("explain-url");
  await page.keyboard.type(`${pages.base}/page/1`);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#explanation .verdict");
  // The table of hot keys goes on living meanwhile: the focus stays where it is.
  await page.waitForTimeout(2500);
  assert.equal(await focused(), "explain-url");
  await tab("purge-what");
  // The third of the list: a tag.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await tab("purge-value");
  await page.keyboard.type("pages");
  await tab("purge-hard");
  await page.keyboard.press("Space");
  await page.keyboard.press("Enter");
  await eventually("the receipt", async () => /tag pages \(hard\)/.test(await text(page, "#receipt")));
  await close();
});

for (const [name, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { colorScheme: "light", viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
  ["phone-dark", { colorScheme: "dark", viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
  ["tablet", { colorScheme: "light", viewport: { width: 900, height: 1000 } }],
]) {
  test(`everybody can use it: ${name}`, async () => {
    const { page, close } = await open(ring.nodes[0], options);
    await eventually("a second round", async () => /\d\.\d|\d{2}/.test(await page.locator(".chart .value").first().innerText()));
    await page.fill("#explain-url", `${pages.base}/page/2`);
    await page.click("#explain-form button");
    await page.waitForSelector("#explanation .verdict");
    await page.waitForTimeout(shots ? 12000 : 0);
    await page.evaluate(() => window.scrollTo(0, 0));
    await shoot(page, name);
    const width = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(width[0] <= width[1], `no scrolling sideways: ${width}`);
    // Its own world: the page's policy does not hold there.
    const found = await page.evaluate(async (source) => {
      const run = new Function(`${source}; return window.axe`);
      const axe = run();
      const result = await axe.run(document);
      return result.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).join(", ")}`);
    }, axe);
    assert.deepEqual(found, []);
    await close();
  });
}

test("a purge asks for the token where one is set, and keeps it nowhere", async () => {
  const guarded = await cluster(1, TOKEN);
  try {
    const { page, close } = await open(guarded.nodes[0]);
    await page.waitForSelector("#purge-token:visible");
    const attempt = async (token) => {
      await page.fill("#purge-token", token);
      await page.selectOption("#purge-what", "host");
      await page.fill("#purge-value", "a.example");
      await page.click("#purge-form button");
    };
    await attempt(TOKEN);
    await eventually("the receipt", async () => /host a\.example/.test(await text(page, "#receipt")));
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
    assert.deepEqual(kept, [0, 0, ""]);
    await shoot(page, "alone");
    await close();
  } finally {
    await guarded.stop();
  }
});

test("a node that is killed is seen, and so is one that comes back", async () => {
  const { page, close } = await open(ring.nodes[0]);
  await eventually("all answered", async () => (await text(page, "#connection")).includes("5 of 5"));
  const victim = ring.nodes[4];
  victim.child.kill("SIGKILL");
  await eventually("it is dead", async () => (await page.locator("tr.state-dead").count()) === 1);
  const row = await text(page, "tr.state-dead");
  assert.ok(row.includes("koorde-4") && row.includes("✕ dead"), row);
  assert.equal(await page.locator("svg.ring path.member.state-dead").count(), 1);
  await eventually("the others are all", async () => (await text(page, "#connection")).includes("4 of 4 members answered"));
  assert.match(await text(page, "#changes"), /koorde-4 .*dead/);
  await shoot(page, "dead");
  start(victim);
  await eventually("it is back", async () => (await text(page, "#connection")).includes("5 of 5 members answered"));
  assert.equal(await page.locator("tr.state-live").count(), 5);
  assert.match(await text(page, "#changes"), /koorde-4 .*dead → .*(live|joining)/);
  await close();
});

test("one that does not answer is suspected and named", async () => {
  const { page, close } = await open(ring.nodes[0]);
  const victim = ring.nodes[3];
  victim.child.kill("SIGSTOP");
  try {
    await eventually("it is named", async () => {
      const said = await text(page, "#connection");
      return said.includes("4 of 5 members answered; not koorde-3") || (await page.locator("tr.state-dead").count()) === 1;
    });
    const seen = await text(page, "#changes");
    assert.match(seen, /koorde-3 .*(suspected|dead)/);
    await shoot(page, "suspected");
  } finally {
    victim.child.kill("SIGCONT");
  }
  await eventually("it is back", async () => (await text(page, "#connection")).includes("5 of 5 members answered"));
  await close();
});

test("the page says so when its node is gone", async () => {
  const { page, close } = await open(ring.nodes[2]);
  ring.nodes[2].child.kill("SIGKILL");
  await eventually("no news", async () => (await text(page, "#connection")).includes("No news for"));
  assert.ok(await page.evaluate(() => document.body.classList.contains("old")));
  // What the browser itself says of the lost connection is not the page's doing.
  await close().catch((error) => assert.match(error.message, /console is empty/));
});
