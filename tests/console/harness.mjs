// A browser, and what is asserted of every page: it is valid HTML, axe finds nothing serious, nothing is refused by the
// content security policy, and nothing scrolls sideways, however narrow.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { HtmlValidate, StaticConfigLoader } from "html-validate";
import { chromium } from "playwright-core";

/** What the system under test has announced. */
export const dev = JSON.parse(process.env.BATOFF_DEV ?? "null");

/** Where pictures go; without it none are taken. */
const pictures = process.env.BATOFF_SCREENSHOTS;

/** No wait is longer; generous, for machines are shared. */
export const PATIENCE = 30_000;

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Everything is checked that makes a page invalid or hard to use; how it is indented is nobody's business. */
const html = new HtmlValidate(
  new StaticConfigLoader({
    extends: ["html-validate:standard", "html-validate:a11y"],
    rules: {
      // In forms that filter, a button that says nothing of its type sends them.
      "no-implicit-button-type": "off",
      // "<!doctype html>" is as good.
      "doctype-style": "off",
      "long-title": "off",
      // Buttons of one switch have one name and different values.
      "form-dup-name": "off",
    },
  }),
);

export async function openBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // As root, in a container, chromium's own sandbox cannot be made. All pages are ours.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
}

/** Somebody with a browser of his own: cookies, language, size, with or without scripts. */
export async function newPerson(browser, { locale = "en-GB", scripts = true, width = 1280, state } = {}) {
  const context = await browser.newContext({
    locale,
    javaScriptEnabled: scripts,
    // What is half way from one colour to another is neither.
    reducedMotion: "reduce",
    viewport: { width, height: 900 },
    baseURL: dev.console,
    storageState: state,
    permissions: scripts ? ["clipboard-read", "clipboard-write"] : [],
  });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of (4|5)\d\d/.test(message.text())) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  return page;
}

/** What is asserted of the page as it stands. */
export async function checkPage(page, name) {
  const source = await page.content();
  await checkHtml(source, name);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await checkAxe(page, `${name}, ${scheme}`);
  }
  assert.deepEqual(page.complaints, [], `${name}: the browser's console is not empty`);
}

/** Of what the server sends, before a script has changed it. */
export async function checkHtml(source, name) {
  const report = await html.validateString(source, `${name}.html`);
  const found = report.results.flatMap((result) => result.messages);
  const said = found.map((one) => `${name}: line ${one.line}: ${one.message} [${one.ruleId}] at ${one.selector}`);
  assert.deepEqual(said, []);
}

async function checkAxe(page, name) {
  // By the protocol: the policy of the page allows no script that is put into it.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const said = grave.flatMap(({ id, nodes }) => nodes.map((node) => `${name}: ${id}: ${node.html}: ${node.failureSummary}`));
  assert.deepEqual(said, []);
}

/** Nothing scrolls sideways at this width, but what has a scroll bar of its own. */
export async function checkNarrow(page, name, width = 380) {
  const size = page.viewportSize();
  await page.setViewportSize({ width, height: 800 });
  const wide = await page.evaluate(() => {
    const most = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= most) return [];
    const scrolls = (it) => it && (getComputedStyle(it).overflowX !== "visible" || scrolls(it.parentElement));
    const out = [...document.querySelectorAll("body *")].filter((it) => it.getBoundingClientRect().right > most + 1);
    return out.filter((it) => !scrolls(it.parentElement)).slice(0, 5).map((it) => it.outerHTML.slice(0, 160));
  });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await picture(page, `${name}-narrow`);
  await page.setViewportSize(size);
  assert.ok(overflow <= 0, `${name} is ${overflow} px wider than ${width}: ${wide.join("\n")}`);
}

export async function picture(page, name) {
  if (!pictures) return;
  await mkdir(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/${name.replaceAll(/[^a-z0-9-]+/gi, "_")}.png`, fullPage: true });
}

/** Asks again and again until there is an answer. */
export async function eventually(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(Date.now() < end, `still waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
