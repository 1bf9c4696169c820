// What this page asks its node: events of the whole cluster, reports, a purge.

/** Without an event for so long, what is shown is old. */
const OLD = 3500;
/** Until the next try, where the browser gives up by itself. */
const AGAIN = 5000;

/**
 * Calls `news(snapshot)` for each event, and `trouble(text)` when there are none: `null` once they
 * come again.
 */
export function follow(news, trouble) {
  let last = performance.now();
  let events;
  const open = () => {
    events = new EventSource("events");
    events.addEventListener("cluster", (event) => {
      last = performance.now();
      trouble(null);
      news(JSON.parse(event.data));
    });
    events.onerror = () => {
      // Refused: no longer there, or too many look at it.
      if (events.readyState === EventSource.CLOSED) setTimeout(open, AGAIN);
    };
  };
  open();
  setInterval(() => {
    const since = performance.now() - last;
    if (since > OLD) {
      const seconds = Math.round(since / 1000);
      trouble(`No news for ${seconds} s: the node is gone, or too many look at it. Trying again.`);
    }
  }, 1000);
}

async function read(response) {
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not ours: a proxy's page, perhaps.
  }
  if (!response.ok || body === null) {
    const said = body && body.message ? body.message : text.slice(0, 200);
    throw new Error(`${response.status}: ${said || "no answer that is understood"}`);
  }
  return body;
}

/** What the node says of a URL. */
export async function explain(url) {
  const query = new URLSearchParams({ url }).toString().replaceAll("+", "%20");
  // Not `no-store`: the browser would say that it wants nothing stored, and that is what would be explained.
  return read(await fetch(`../debug/explain?${query}`));
}

/** Purges; the receipt. `what`: url, prefix, tag, host or all. */
export async function purge(what, value, hard, token) {
  const query = new URLSearchParams({ [what]: what === "all" ? "true" : value });
  if (hard) query.set("hard", "true");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const path = `../purge?${query.toString().replaceAll("+", "%20")}`;
  return read(await fetch(path, { method: "POST", headers, cache: "no-store" }));
}
