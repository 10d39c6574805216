#!/usr/bin/env node
// Purges a URL and tags, and waits until no node can serve them any more. Node.js 18 or later, nothing to install.
//
//     export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
//     node purge.mjs https://www.example.com/index.html product:42 category:shoes
import { createHash, createHmac, randomInt, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const { BATOFF_API, BATOFF_SITE: site, BATOFF_TOKEN: token, BATOFF_SECRET: secret, BATOFF_KEY } = process.env;

/** Seconds since 1970. Milliseconds and random digits: within one millisecond two purges could be taken for one. */
const timestamp = () => (Date.now() / 1000).toFixed(3) + String(randomInt(1_000_000)).padStart(6, "0");

function signature(time, method, target, body, key) {
  const lines = [time, method, target, createHash("sha256").update(body).digest("hex")];
  if (key) lines.push(key);
  return createHmac("sha256", secret).update(lines.join("\n")).digest("hex");
}

/** One request, signed over the very bytes that are sent. Each try is signed anew; the key makes them one purge. */
async function send(method, target, body = "", key = undefined) {
  for (let attempt = 0; ; attempt++) {
    const time = timestamp();
    const headers = {
      Authorization: `Bearer ${token}`,
      "X-Batoff-Timestamp": time,
      "X-Batoff-Signature": "sha256=" + signature(time, method, target, body, key),
    };
    if (body) headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    let failure, pause;
    try {
      const signal = AbortSignal.timeout(60_000);
      const url = BATOFF_API.replace(/\/$/, "") + target;
      const reply = await fetch(url, { method, headers, body: body || undefined, signal });
      if (reply.ok) return await reply.json();
      failure = refusal(reply.status, await reply.text());
      pause = reply.headers.get("Retry-After");
      if (reply.status !== 429 && reply.status !== 503) attempt = Infinity;
    } catch (error) {
      // No connection, or one that broke: whether the request arrived is unknown.
      failure = new Error(`${BATOFF_API} cannot be reached: ${error.cause?.message ?? error.message}`);
    }
    if (attempt >= 4) throw failure;
    await sleep(1000 * (pause ?? 2 ** attempt));
  }
}

/** What a refusal says: application/problem+json, RFC 9457. */
function refusal(status, text) {
  try {
    const { title, code, detail = "", errors = [] } = JSON.parse(text);
    const items = errors.map((item) => `\n  ${item.pointer ?? item.parameter}: ${item.detail}`);
    return new Error(`${title} (${status} ${code}): ${detail}${items.join("")}`);
  } catch {
    return new Error(`HTTP status ${status}: ${text.slice(0, 200)}`);
  }
}

async function main(url, ...tags) {
  const missing = ["API", "SITE", "TOKEN", "SECRET"].filter((name) => !process.env["BATOFF_" + name]);
  if (missing.length) throw new Error("set BATOFF_" + missing.join(", BATOFF_"));
  if (!url) throw new Error("usage: purge.mjs URL [TAG…]");
  // One key for one purge. A deploy script takes the id of its deployment, and may run again without harm.
  const key = BATOFF_KEY || randomUUID();
  let task = await send("POST", `/v1/sites/${site}/purge`, JSON.stringify({ urls: [url], tags }), key);
  console.log(task.task_id); // from here on it takes effect, whatever happens to this script

  const deadline = Date.now() + 60_000;
  while (task.state !== "completed") {
    if (Date.now() > deadline) throw new Error(`not completed after 60 s: ${task.state}, ${JSON.stringify(task.nodes)}`);
    // The answer is held until it is completed, at most 20 s. The query is a part of what is signed.
    task = await send("GET", `/v1/sites/${site}/purge/${task.task_id}?wait=20`);
  }
  console.log(`completed in ${task.propagation_ms} ms on ${task.nodes.total} nodes`);
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
