// Real nodes, each a process of its own, and an origin.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE = 30_000;

/** Waits until `look()` gives something true, and gives it back. */
export async function eventually(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`not in ${PATIENCE / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** An origin whose pages are fresh for ten minutes; counts what it is asked for. */
export async function origin() {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push(request.url);
    response.setHeader("cache-control", "max-age=600");
    response.setHeader("etag", '"1"');
    response.setHeader("surrogate-key", "pages");
    response.end(`page ${request.url}`.padEnd(2000, "."));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const base = `http://127.0.0.1:${server.address().port}`;
  return { asked, base, stop: () => server.close() };
}

/** `count` nodes in one ring; `token`: what a purge needs. */
export async function cluster(count, token = null) {
  const folder = mkdtempSync(join(tmpdir(), "koorde-ui-"));
  const nodes = [];
  const all = { nodes, stop: () => stop(nodes, folder) };
  for (let index = 0; index < count; index += 1) {
    const [client, admin, peer] = [await freePort(), await freePort(), await freePort()];
    const flags = {
      "node.name": `koorde-${index}`,
      "http.listen": `127.0.0.1:${client}`,
      "admin.listen": `127.0.0.1:${admin}`,
      "ring.listen": `127.0.0.1:${peer}`,
      "ring.secret": "a secret of the page's tests",
      "ring.stabilize": "250ms",
      "egress.allow": "127.0.0.1",
      "store.capacity": "64MiB",
      "shutdown.delay": "0s",
      "log.level": "error",
    };
    if (index > 0) flags["ring.seeds"] = nodes[0].peer;
    if (token) {
      writeFileSync(join(folder, "token"), token);
      flags["admin.token_file"] = join(folder, "token");
    }
    const args = Object.entries(flags).flatMap(([key, value]) => [`--${key}`, value]);
    const node = {
      name: `koorde-${index}`,
      args,
      child: null,
      client: `http://127.0.0.1:${client}`,
      admin: `http://127.0.0.1:${admin}`,
      peer: `127.0.0.1:${peer}`,
    };
    start(node);
    nodes.push(node);
  }
  try {
    await eventually("all nodes know all", async () => {
      const rings = nodes.map(async (node) => {
        try {
          const answer = await (await fetch(`${node.admin}/metrics/json`)).json();
          return answer.node.ready && answer.routing.members === count;
        } catch {
          return false;
        }
      });
      return (await Promise.all(rings)).every(Boolean);
    });
  } catch (error) {
    await all.stop();
    throw error;
  }
  return all;
}

/** Starts a node, or starts it again. */
export function start(node) {
  node.child = spawn(process.env.KOORDE_BINARY, ["serve", ...node.args], { stdio: ["ignore", "ignore", "inherit"] });
}

async function stop(nodes, folder) {
  for (const { child } of nodes) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }
  rmSync(folder, { recursive: true });
}

/** Fetches through a node. */
export async function get(node, url) {
  const answer = await fetch(`${node.client}/cache?url=${encodeURIComponent(url)}`);
  await answer.arrayBuffer();
  return answer;
}
