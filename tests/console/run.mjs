// The console as people use it: one story after another against one system, each with a browser of its own.
//
//     BATOFF_DEV='{"console":"http://…",…}' BATOFF_CLI=target/debug/batoff node run.mjs [part of a story's name]
import assert from "node:assert/strict";
import { dev, openBrowser } from "./harness.mjs";
import * as stories from "./stories.mjs";

assert.ok(dev?.console, "BATOFF_DEV has no address of a console; tests/console.rs starts a system and says where it is");
const wanted = process.argv[2] ?? "";
const browser = await openBrowser();
let failed = 0;
for (const story of stories.all) {
  // The first one signs in for the others.
  if (story !== stories.all[0] && !story.name.includes(wanted)) continue;
  const started = Date.now();
  try {
    await story(browser);
    console.log(`ok   ${story.name} (${Date.now() - started} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${story.name} (${Date.now() - started} ms)\n${error.stack}`);
  }
  await Promise.all(browser.contexts().map((context) => context.close()));
  // Nobody is signed in: there is nothing to tell.
  if (failed && story === stories.all[0]) break;
}
await browser.close();
process.exitCode = failed ? 1 : 0;
