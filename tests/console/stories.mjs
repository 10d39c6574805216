import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { checkHtml, checkNarrow, checkPage, dev, eventually, newPerson, picture } from "./harness.mjs";

const run = promisify(execFile);

/** As the first operator chooses it. */
const PASSWORD = "seven quiet otters paddle north";

/** What the first story leaves for the others: its cookies. */
let operator;

/** Every page that a link of the navigation leads to, and those that only have an address. */
let pages = [];

async function as_operator(browser, options = {}) {
  return newPerson(browser, { state: operator, ...options });
}

/** The command line tool, in the name of nobody but what it is given. */
async function batoff(environment, ...args) {
  const env = { PATH: process.env.PATH, BATOFF_API: dev.api, LANG: "C.UTF-8", ...environment };
  try {
    const { stdout, stderr } = await run(process.env.BATOFF_CLI, args, { env });
    return { code: 0, said: stdout + stderr };
  } catch (error) {
    return { code: error.code, said: `${error.stdout}${error.stderr}` };
  }
}

async function sign_in(page, name, password) {
  await page.goto("/sign-in");
  await page.locator('input[name="name"]').fill(name);
  await page.locator('input[name="password"]').fill(password);
  await page.locator("main form button").first().click();
}

/** Issues a token in the console; its two halves, as they are shown this once. */
async function issue(page, label) {
  await page.goto("/tokens");
  const form = page.locator('form[action="/tokens"][method="post"]');
  if (!(await form.isVisible())) await page.locator("details.issue > summary").click();
  const site = form.locator('select[name="site"]');
  if (await site.count()) await site.selectOption(dev.site);
  await form.locator('input[name="label"]').fill(label);
  await form.locator("button").click();
  await page.locator("#token").waitFor();
  return { BATOFF_TOKEN: await page.locator("#token").textContent(), BATOFF_SECRET: await page.locator("#secret").textContent() };
}

async function the_first_password_is_for_one_time(browser) {
  const page = await newPerson(browser);
  await page.goto("/purges");
  assert.match(page.url(), /\/sign-in/, "without a session every page leads to where one signs in");
  await checkPage(page, "sign-in");
  await checkNarrow(page, "sign-in");

  await sign_in(page, dev.console_user, "not the password at all");
  assert.ok(await page.locator('input[name="password"]').isVisible(), "a wrong password opens nothing");
  await sign_in(page, dev.console_user, dev.console_password);
  await page.goto("/purges");
  assert.ok(!/\/purges$/.test(page.url()), `until the password is changed there is nothing else: ${page.url()}`);
  await checkPage(page, "password");
  await checkNarrow(page, "password");
  const form = page.locator('form[action="/account/password"]');
  await form.locator('[name="present"]').fill(dev.console_password);
  await form.locator('[name="new"]').fill(PASSWORD);
  await form.locator('[name="repeat"]').fill(PASSWORD);
  await form.locator("button").click();
  await page.waitForLoadState();
  await page.goto("/purges");
  assert.match(page.url(), /\/purges$/);
  await page.locator("nav.nav").waitFor();
  pages = await page.locator("nav.nav a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  pages.push("/docs/operators", "/audit/chain", "/audit?action=token.issue", `/sites/${dev.site}`, `/nodes/${dev.nodes[0].pop}/${dev.nodes[0].node}`, "/account");
  operator = await page.context().storageState();
}

async function a_token_purges_while_one_watches_and_is_refused_once_revoked(browser) {
  const page = await as_operator(browser);
  const credentials = { ...(await issue(page, "browser story")), BATOFF_SITE: dev.site };
  assert.match(credentials.BATOFF_TOKEN, /^bto_live_/);
  assert.match(credentials.BATOFF_SECRET, /^bts_live_/);
  assert.ok(!page.url().includes("bto_") && !page.url().includes("bts_"), page.url());
  await checkHtml(await page.content(), "token issued");
  await checkNarrow(page, "token-issued");
  await page.locator(".snippet .copy").first().click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied, credentials.BATOFF_TOKEN);

  const watching = await as_operator(browser);
  await watching.goto("/purges");
  const purge = await batoff(credentials, "purge", "--tag", "browser:story", "--wait", "-o", "json");
  assert.equal(purge.code, 0, purge.said);
  const { task_id: task } = JSON.parse(purge.said);
  // Nobody loads the page again: the row comes, and becomes completed, by itself.
  await watching.locator(`#p-${task}[data-state="completed"]`).waitFor();
  await watching.goto(`/sites/${dev.site}/purges/${task}`);
  for (const pop of new Set(dev.nodes.map((node) => node.pop))) {
    assert.ok(await watching.getByText(pop, { exact: true }).first().isVisible(), `${pop} is told of`);
  }
  await checkPage(watching, "purge");
  await checkNarrow(watching, "purge");

  await page.goto("/tokens");
  const row = page.locator("tr", { hasText: "browser story" });
  await row.getByText("127.0.0.1").waitFor();
  await row.getByRole("link", { name: /Revoke/ }).click();
  await checkPage(page, "revoke");
  await page.locator("button.grave").click();
  await page.locator(".flash").waitFor();
  const refused = await eventually("the API refuses the token", async () => {
    const tried = await batoff(credentials, "list");
    return tried.code === 1 && tried;
  });
  assert.match(refused.said, /invalid_token/);
  await page.locator("tr", { hasText: "browser story" }).getByText("refused since").waitFor();
  await page.goto(`/audit?action=token.revoke`);
  await page.getByText(`user:${dev.console_user}`).first().waitFor();
}

async function a_frozen_node_is_named_late_with_the_reason(browser) {
  const page = await as_operator(browser);
  const credentials = { ...(await issue(page, "frozen story")), BATOFF_SITE: dev.site };
  const node = dev.nodes.at(-1);
  process.kill(node.pid, "SIGSTOP");
  try {
    const purge = await batoff(credentials, "purge", "--tag", "frozen:story", "-o", "json");
    assert.equal(purge.code, 0, purge.said);
    const { task_id: task } = JSON.parse(purge.said);
    await eventually("the node is named, with what it waits for", async () => {
      await page.goto(`/sites/${dev.site}/purges/${task}`);
      // In its own row: while its lease lasts it is waited for, after that it has none.
      const row = page.locator("table.nodes tbody tr", { hasText: `${node.pop}/${node.node}` });
      return (await row.count()) > 0 && /still waiting|without a lease|no connection/i.test(await row.first().innerText());
    });
    await picture(page, "purge-with-a-late-node");
  } finally {
    process.kill(node.pid, "SIGCONT");
  }
}

async function every_page_is_valid_accessible_and_narrow(browser) {
  for (const locale of ["en-GB", "ru-RU"]) {
    const page = await as_operator(browser, { locale });
    for (const path of pages) {
      const name = `${path}-${locale.slice(0, 2)}`;
      const reply = await page.goto(path);
      assert.equal(reply.status(), 200, name);
      assert.equal(await page.locator("html").getAttribute("lang"), locale.slice(0, 2), name);
      await checkHtml(await reply.text(), name);
      if (locale === "ru-RU") assert.match(await page.locator("h1, nav.nav").first().innerText(), /[а-яё]/i, name);
      await checkPage(page, name);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await picture(page, `${name}-${colorScheme}`);
      }
      await checkNarrow(page, name);
    }
    await page.context().close();
  }
}

async function everything_can_be_done_with_the_keyboard(browser) {
  const page = await as_operator(browser);
  await page.goto("/purges");
  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "#main", "the first stop leads past the navigation");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await reach(page, "/tokens", 'a[href="/tokens"]');
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/tokens$/);
  const form = page.locator('form[action="/tokens"][method="post"]');
  if (!(await form.isVisible())) {
    await reach(page, "the form's summary", "details.issue > summary");
    await page.keyboard.press("Enter");
  }
  await reach(page, "the label", 'input[name="label"]');
  await page.keyboard.type("keyboard story");
  await page.keyboard.press("Enter");
  await page.locator("#token").waitFor();
}

async function without_scripts_everything_but_news_works(browser) {
  const page = await as_operator(browser, { scripts: false });
  const credentials = await issue(page, "plain story");
  assert.match(credentials.BATOFF_SECRET, /^bts_live_/);
  assert.equal(await page.locator("button.copy:visible").count(), 0, "a button that does nothing is not shown");
  await page.goto("/audit");
  await page.locator('select[name="action"]').selectOption("token.issue");
  await page.locator("form.filter button").click();
  assert.match(page.url(), /action=token\.issue/);
  assert.ok((await page.locator("table.audit tbody tr").count()) > 0);
  await page.goto("/docs");
  await page.locator(".tabs-row label", { hasText: "PHP" }).click();
  assert.ok(await page.locator("#example-php").isVisible() && !(await page.locator("#example-bash").isVisible()));
  await page.goto(`/sites/${dev.site}?kind=everything`);
  await page.locator(".figure").waitFor();
  await page.goto("/tokens");
  await page.locator("tr", { hasText: "plain story" }).getByRole("link", { name: /Revoke/ }).click();
  await page.locator("button.grave").click();
  await page.locator(".flash").waitFor();
}

async function signed_out_one_is_out(browser) {
  const page = await as_operator(browser);
  await page.goto("/purges");
  await page.locator('form[action="/sign-out"] button').click();
  await page.goto("/tokens");
  assert.match(page.url(), /\/sign-in/);
}

/** Where the focus is, as an address. */
async function focused(page) {
  return page.evaluate(() => document.activeElement.getAttribute("href"));
}

/** Goes on with Tab until the focus is there. */
async function reach(page, what, selector) {
  for (let steps = 0; steps < 120; steps += 1) {
    if (await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`the keyboard does not reach ${what}`);
}

export const all = [
  the_first_password_is_for_one_time,
  a_token_purges_while_one_watches_and_is_refused_once_revoked,
  a_frozen_node_is_named_late_with_the_reason,
  every_page_is_valid_accessible_and_narrow,
  everything_can_be_done_with_the_keyboard,
  without_scripts_everything_but_news_works,
  signed_out_one_is_out,
];
