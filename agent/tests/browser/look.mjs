// Looks at the agent's pages as people do: on a phone and on a desk, in light and in dark.
//
//   node look.mjs URL CHROMIUM PACKAGES PICTURES
//
// Every page must load without a word on the console, ask nobody else for anything, not scroll sideways, show
// where the focus is, and have nothing that axe knows to be a barrier. Then a page is spoiled on purpose, and
// each of these must be noticed. Prints what was looked at; what is wrong ends it with 1.

import { createRequire } from "node:module";
import { join } from "node:path";

const [url, chromium, packages, pictures] = process.argv.slice(2);
const require = createRequire(packages + "/");
const { default: puppeteer } = require("puppeteer-core");
const axe = require("axe-core");

const SIZES = { phone: { width: 360, height: 800 }, desk: { width: 1100, height: 1400 } };
const SCHEMES = ["light", "dark"];
/** What axe must have had something to judge by. */
const JUDGED = ["color-contrast", "landmark-one-main", "heading-order", "scrollable-region-focusable", "svg-img-alt"];

// A machine that builds meanwhile is slow.
const PATIENCE_MS = 120_000;

const browser = await puppeteer.launch({
  executablePath: chromium,
  pipe: true,
  timeout: PATIENCE_MS,
  args: ["--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-software-rasterizer", "--disable-lcd-text"],
});

/** A page of its own whose troubles are noted. */
async function open(address, size, scheme) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const troubles = [];
  page.on("console", (message) => troubles.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => troubles.push(`error: ${error}`));
  page.on("requestfailed", (request) => troubles.push(`failed: ${request.url()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) {
      troubles.push(`elsewhere: ${request.url()}`);
    }
  });
  page.on("response", (response) => {
    if (!response.ok()) troubles.push(`status: ${response.status()} of ${response.url()}`);
  });
  await page.setViewport({ ...SIZES[size], isMobile: size === "phone", hasTouch: size === "phone" });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(address);
  return { page, troubles };
}

/** What is wrong with what a page shows, and which of axe's rules found something to judge. */
async function judge(page) {
  const wrong = [];
  // Not innerWidth: a phone zooms out until a page that is too wide fits.
  const wide = (await page.evaluate(() => document.documentElement.scrollWidth)) - page.viewport().width;
  if (wide > 0) wrong.push(`sideways: ${wide} pixels too wide`);
  await page.keyboard.press("Tab");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  if (outline !== "solid") wrong.push(`focus: its outline is ${outline}`);
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => axe.run());
  for (const { id, nodes } of violations) {
    wrong.push(`axe ${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
  }
  return { wrong, judged: passes.map((rule) => rule.id) };
}

/** Everything that must be noticed, each in its own way. */
async function spoil(page) {
  await page.evaluate(() => {
    const image = document.createElement("img");
    image.src = "/no-such-picture";
    const wide = document.createElement("div");
    wide.style.width = "5000px";
    wide.append("wide", image);
    document.querySelector("main").append(wide);
    const script = document.createElement("script");
    script.textContent = "document.title = 'owned'";
    document.body.append(script);
    for (const link of document.querySelectorAll("a")) link.style.outline = "none";
  });
}

const { page: first } = await open(url, "desk", "light");
const findings = await first.$$eval(".findings h3 a", (links) => links.map((link) => link.href));
// The newest, of an io_end that is stuck; the one before, of a direct write.
const addresses = [url, ...findings.slice(0, 2)];
const failed = [];
const judged = new Set();
for (const address of addresses) {
  for (const size of Object.keys(SIZES)) {
    for (const scheme of SCHEMES) {
      const { page, troubles } = await open(address, size, scheme);
      const found = await judge(page);
      found.judged.forEach((rule) => judged.add(rule));
      for (const wrong of [...troubles, ...found.wrong]) failed.push(`${address} ${size} ${scheme}: ${wrong}`);
      await page.close();
    }
  }
}
for (const rule of JUDGED) if (!judged.has(rule)) failed.push(`axe found nothing to judge by ${rule}`);

const { page: spoiled, troubles } = await open(url, "phone", "light");
await spoil(spoiled);
const { wrong } = await judge(spoiled);
const told = [...troubles, ...wrong].join("\n");
for (const word of ["Content Security Policy", "sideways:", "focus:", "axe image-alt"]) {
  if (!told.includes(word)) failed.push(`a spoiled page was not noticed by ${word}: ${told}`);
}
if ((await spoiled.title()) === "owned") failed.push("a script ran");

/** For the documentation. */
for (const [name, part, scheme] of [["phone", "health", "dark"], ["desk", "in-flight", "light"]]) {
  const { page } = await open(`${url}#${part}`, name, scheme);
  await page.screenshot({ path: join(pictures, `${name}.png`) });
}
await browser.close();
console.log(`${addresses.length} pages, ${judged.size} of axe's rules had something to judge`);
failed.forEach((line) => console.error(line));
process.exitCode = failed.length > 0 || addresses.length < 3 ? 1 : 0;
