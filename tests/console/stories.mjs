import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { execFile, spawn } from "node:child_process";
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

/** Asks the API for the site's purges, signed: the status. */
async function listed({ BATOFF_TOKEN, BATOFF_SECRET }) {
  const target = `/v1/sites/${dev.site}/purges?limit=1`;
  const time = (Date.now() / 1000).toFixed(3);
  const lines = [time, "GET", target, createHash("sha256").update("").digest("hex")];
  const signature = createHmac("sha256", BATOFF_SECRET).update(lines.join("\n")).digest("hex");
  const headers = {
    Authorization: `Bearer ${BATOFF_TOKEN}`,
    "X-Batoff-Timestamp": time,
    "X-Batoff-Signature": `sha256=${signature}`,
  };
  const reply = await fetch(dev.api + target, { headers });
  await reply.arrayBuffer();
  return reply.status;
}

async function sign_in(page, name, password) {
  await page.goto("/sign-in");
  await page.locator('input[name="name"]').fill(name);
  await page.locator('input[name="password"]').fill(password);
  await page.locator("main form button").first().click();
}

/** Issues a token in the console; its two halves, as they are shown this once. */
async function issue(page, label, of = dev.site) {
  await page.goto("/tokens");
  const form = page.locator('form[action="/tokens"][method="post"]');
  if (!(await form.isVisible())) await page.locator("details.issue > summary").click();
  const site = form.locator('select[name="site"]');
  if (await site.count()) await site.selectOption(of);
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
  pages.push(`/users/${dev.console_user}`, `/users/${dev.console_user}/remove`, "/docs/operators", "/audit/chain", "/audit?action=token.issue", `/sites/${dev.site}`, `/nodes/${dev.nodes[0].pop}/${dev.nodes[0].node}`, "/account");
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

async function once_the_page_says_revoked_the_api_refuses(browser) {
  const page = await as_operator(browser);
  const credentials = await issue(page, "measured story");
  const { pathname } = new URL(page.url());
  await page.reload();
  assert.equal(await page.locator("#token").count(), 0, "loaded again, the page shows no secret");
  assert.match(await page.locator("h1").innerText(), /sent before/, `${pathname} made another token`);
  await page.goto("/tokens");
  assert.equal(await page.locator("table.tokens tr", { hasText: "measured story" }).count(), 1);
  assert.equal(await listed(credentials), 200);

  await page.locator("tr", { hasText: "measured story" }).getByRole("link", { name: /Revoke/ }).click();
  const asked = [];
  let done = false;
  const asking = (async () => {
    while (!done || asked.at(-1).status === 200) {
      const sent = performance.now();
      const status = await listed(credentials);
      asked.push({ sent, status, answered: performance.now() });
      assert.ok(asked.length < 20_000, "the API never refuses");
    }
  })();
  await eventually("the API is asked", () => asked.length > 3);
  const clicked = performance.now();
  await page.locator("button.grave").click({ noWaitAfter: true });
  await page.locator(".flash").waitFor();
  const said = performance.now();
  done = true;
  await asking;
  const refused = asked.find(({ status }) => status !== 200);
  console.log(`     refused ${(refused.answered - clicked).toFixed(0)} ms after the click; the page said so after ${(said - clicked).toFixed(0)} ms`);
  assert.equal(refused.status, 401);
  const accepted = asked.filter(({ sent, status }) => sent > said && status !== 401);
  assert.deepEqual(accepted, [], "the page said revoked, and the API accepted");
}

/** Adds a user in the console: the one-time password, as it is shown this once. */
async function add_user(page, name, role, sites) {
  await page.goto("/users");
  await page.locator("details.issue > summary").click();
  const form = page.locator('form[action="/users"]');
  await form.locator('[name="name"]').fill(name);
  await form.locator('[name="role"]').selectOption(role);
  await form.locator('[name="sites"]').fill(sites);
  await form.locator("button").click();
  await page.locator("#password").waitFor();
  return page.locator("#password").textContent();
}

/** Signs in for the first time, and chooses a password. */
async function enter(page, name, one_time, password) {
  await sign_in(page, name, one_time);
  const form = page.locator('form[action="/account/password"]');
  await form.locator('[name="present"]').fill(one_time);
  await form.locator('[name="new"]').fill(password);
  await form.locator('[name="repeat"]').fill(password);
  await form.locator("button").click();
  await page.locator(".flash").waitFor();
}

async function users_are_added_helped_and_removed(browser) {
  // Without scripts, for nothing here needs any.
  const page = await as_operator(browser, { scripts: false });
  const first = await add_user(page, "vera", "viewer", dev.site);
  await checkHtml(await page.content(), "one-time password");
  await picture(page, "user-password");
  await page.reload();
  assert.equal(await page.locator("#password").count(), 0, "loaded again, the page shows no password");

  const vera = await newPerson(browser);
  await enter(vera, "vera", first, "two herons wait by the weir");
  await vera.goto("/purges");
  assert.match(vera.url(), /\/purges$/);

  const watching = await as_operator(browser);
  await watching.goto("/users/vera");
  await checkPage(watching, "user");
  await checkNarrow(watching, "user");
  await watching.goto("/users/vera/remove");
  await checkPage(watching, "user-remove");
  await checkNarrow(watching, "user-remove");

  await page.goto("/users/vera");
  await page.locator('form[action="/users/vera"] [name="role"]').selectOption("member");
  await page.locator('form[action="/users/vera"] button').click();
  await page.locator(".flash").waitFor();
  await vera.goto("/purges");
  assert.match(vera.url(), /\/sign-in/, "another role: signed out");
  await sign_in(vera, "vera", "two herons wait by the weir");
  await vera.goto("/purges/new");
  assert.match(vera.url(), /\/purges\/new$/);
  await page.locator('form[action="/users/vera/sign-out"] button').click();
  await page.locator(".flash").waitFor();
  await vera.goto("/purges");
  assert.match(vera.url(), /\/sign-in/, "signed out everywhere");

  await page.locator('form[action="/users/vera/reset"] button').click();
  const second = await page.locator("#password").textContent();
  await sign_in(vera, "vera", "two herons wait by the weir");
  assert.match(vera.url(), /\/sign-in/, "the password from before is good for nothing");
  await enter(vera, "vera", second, "three herons wait by the weir");
  await page.goto("/users/vera/remove");
  await page.locator("button.grave").click();
  await page.locator(".flash").waitFor();
  await vera.goto("/purges");
  assert.match(vera.url(), /\/sign-in/, "removed");
  await page.goto("/audit?action=user.remove");
  await page.locator("table.audit tbody tr", { hasText: "vera" }).first().waitFor();
}

async function a_member_of_one_site_sees_nothing_of_another(browser) {
  const page = await as_operator(browser);
  await page.goto("/sites");
  await page.locator("details.issue > summary").click();
  const form = page.locator('form[action="/sites"][method="post"]');
  await form.locator('[name="site"]').fill("rival");
  await form.locator('[name="hostnames"]').fill("rival.example.org");
  await form.locator("button").click();
  await page.locator(".flash").waitFor();
  const credentials = { ...(await issue(page, "rival story", "rival")), BATOFF_SITE: "rival" };
  const purge = await batoff(credentials, "purge", "--tag", "rival:secret", "-o", "json");
  assert.equal(purge.code, 0, purge.said);
  const { task_id: task } = JSON.parse(purge.said);
  await page.goto("/tokens?site=rival");
  const token = (await page.locator("table.tokens tbody tr").first().getAttribute("id")).replace("t-", "");

  const one_time = await add_user(page, "mark", "manager", dev.site);
  const mark = await newPerson(browser);
  await enter(mark, "mark", one_time, "four herons wait by the weir");
  const own = await mark.goto(`/sites/${dev.site}`);
  assert.equal(own.status(), 200);
  for (const path of [
    "/sites/rival",
    "/purges?site=rival",
    "/tokens?site=rival",
    "/sla?site=rival",
    "/sla/export?site=rival&days=7&format=csv",
    `/sites/rival/purges/${task}`,
    `/sites/${dev.site}/purges/${task}`,
    `/purges?task=${task}`,
    `/purges/new?site=rival&again=${task}`,
    `/sites/rival/tokens/${token}/revoke`,
    `/sites/${dev.site}/tokens/${token}/revoke`,
    "/now",
    "/nodes",
    "/users",
    "/users/mark",
    "/audit",
    "/audit/export",
    "/docs/operators",
  ]) {
    const reply = await mark.request.get(path, { maxRedirects: 0 });
    assert.ok([403, 404].includes(reply.status()), `${path} answers ${reply.status()}`);
    assert.ok(!/rival:secret|rival story|rival\.example/.test(await reply.text()), `${path} tells of the other site`);
  }
  for (const [path, form] of [
    ["/tokens", { key: "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", site: "rival", label: "x", may: "purge", ends: "" }],
    [`/sites/rival/tokens/${token}/revoke`, {}],
    [`/sites/${dev.site}/tokens/${token}/revoke`, {}],
    ["/purges/new", { site: "rival", tags: "rival:secret", do: "purge", key: "x" }],
    ["/purges/preview", { site: "rival", tags: "rival:secret" }],
    ["/sites/rival", { hostnames: "mark.example.org" }],
    ["/users", { key: "01JF7M2KZ7YH9Q4K0P2BDH9W3Z", name: "x", role: "operator", sites: "" }],
    ["/users/mark", { role: "operator", sites: "" }],
  ]) {
    // As a page of ours would send it: what refuses is not that it comes from elsewhere.
    const reply = await mark.request.post(path, { form, headers: { "Sec-Fetch-Site": "same-origin" }, maxRedirects: 0 });
    assert.ok([403, 404].includes(reply.status()), `POST ${path} answers ${reply.status()}`);
  }
  for (const path of ["/purges", "/tokens", "/sites", "/sla"]) {
    await mark.goto(path);
    assert.ok(!/rival/.test(await mark.content()), `${path} tells of the other site`);
  }
}

async function markup_is_text_on_every_page(browser) {
  const page = await as_operator(browser);
  const image = (place) => `<img/src=x/onerror=window.pwned="${place}">`;
  const label = `${image("label")}</code><script>window.pwned="script"</script>`;
  const credentials = { ...(await issue(page, label)), BATOFF_SITE: dev.site };
  assert.equal(await page.evaluate(() => window.pwned), undefined, "the page with the new token");
  const hostname = dev.hosts[0];
  const tag = await batoff(credentials, "purge", "--tag", image("tag"), "--wait", "-o", "json");
  assert.equal(tag.code, 0, tag.said);
  const url = await batoff(credentials, "purge", "--url", `https://${hostname}/${image("url")}?q=${image("query")}`, "-o", "json");
  assert.equal(url.code, 0, url.said);
  const prefix = await batoff(credentials, "purge", "--prefix", `https://${hostname}/"><svg/onload=window.pwned="prefix">`, "-o", "json");
  assert.equal(prefix.code, 0, prefix.said);
  const refused = await batoff(credentials, "purge", "--url", `https://evil.example/${image("refused")}`);
  assert.equal(refused.code, 1, refused.said);
  const tasks = [tag, url, prefix].map(({ said }) => JSON.parse(said).task_id);
  await page.goto("/tokens");
  const token = (await page.locator("table.tokens tr", { hasText: 'window.pwned="label"' }).getAttribute("id")).replace("t-", "");

  const encoded = encodeURIComponent(`"><img src=x onerror=window.pwned="address">`);
  for (const path of [
    ...pages,
    ...tasks.map((task) => `/sites/${dev.site}/purges/${task}`),
    ...tasks.map((task) => `/purges/new?again=${task}`),
    `/sites/${dev.site}/tokens/${token}/revoke`,
    `/purges?state=${encoded}`,
    `/purges?site=${encoded}`,
    `/purges?task=${encoded}`,
    `/sites?find=${encoded}`,
    `/sites/${dev.site}?kind=tag&value=${encodeURIComponent(image("count"))}`,
    `/sites/${dev.site}?kind=url&value=${encoded}`,
    `/nodes?pop=${encoded}`,
    `/nodes?state=${encoded}`,
    `/audit?actor=${encoded}`,
    `/audit/chain?head=${encoded}`,
    `/users/${encoded}`,
    `/sign-in?next=${encoded}`,
    `/${encoded}`,
  ]) {
    await page.goto(path);
    assert.equal(await page.evaluate(() => window.pwned), undefined, `${path} ran what somebody has written`);
    // Not refused by the policy, for there was nothing to refuse: it is text.
    assert.deepEqual(page.complaints, [], path);
    assert.equal(await page.locator('img, [onerror], [onload], main script').count(), 0, `${path} has markup that is not ours`);
  }
  await page.goto("/purges");
  assert.match(await page.locator("main").innerText(), /<img\/src=x\/onerror=window\.pwned="label">/, "it is shown as it is");
  // Rows that come by themselves are no other way in.
  await page.mouse.move(1, 1); // A table under the mouse is frozen.
  const live = await batoff(credentials, "purge", "--tag", image("live"), "-o", "json");
  const { task_id: task } = JSON.parse(live.said);
  await page.locator(`#p-${task}`).waitFor();
  assert.equal(await page.evaluate(() => window.pwned), undefined, "a row that came by itself");
  assert.equal(await page.locator('img, [onerror], [onload], main script').count(), 0, "a row that came by itself");
  assert.deepEqual(page.complaints, []);
}

async function what_a_cache_complains_of_is_text(browser) {
  const page = await as_operator(browser);
  const credentials = { ...(await issue(page, "trouble story")), BATOFF_SITE: dev.site };
  // A real daemon, whose cache cannot be emptied.
  const edge = spawn(process.env.BATOFF_EDGE, ["--config", process.env.BATOFF_EDGE_CONFIG], { stdio: "ignore" });
  try {
    const tells = (path) =>
      eventually(`${path} tells of the trouble`, async () => {
        await page.goto(path);
        return (await page.locator("main").innerText()).includes('<img/src=x/onerror=window.pwned="trouble">');
      });
    await tells("/now");
    const purge = await batoff(credentials, "purge", "--tag", "trouble:story", "-o", "json");
    assert.equal(purge.code, 0, purge.said);
    for (const path of ["/now", "/nodes", "/nodes?state=attention", "/nodes/zzz1/edge-9"]) {
      await tells(path);
      assert.equal(await page.evaluate(() => window.pwned), undefined, `${path} ran what a cache said`);
      assert.equal(await page.locator("img, [onerror]").count(), 0, `${path} has markup that is not ours`);
      assert.deepEqual(page.complaints, [], path);
      await checkNarrow(page, `trouble ${path}`);
    }
    await page.goto(`/sites/${dev.site}/purges/${JSON.parse(purge.said).task_id}`);
    assert.equal(await page.evaluate(() => window.pwned), undefined, "the page of a purge that waits for it");
    assert.equal(await page.locator("img, [onerror]").count(), 0);
  } finally {
    edge.kill("SIGKILL");
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
  once_the_page_says_revoked_the_api_refuses,
  a_frozen_node_is_named_late_with_the_reason,
  users_are_added_helped_and_removed,
  every_page_is_valid_accessible_and_narrow,
  everything_can_be_done_with_the_keyboard,
  without_scripts_everything_but_news_works,
  a_member_of_one_site_sees_nothing_of_another,
  markup_is_text_on_every_page,
  what_a_cache_complains_of_is_text,
  signed_out_one_is_out,
];
