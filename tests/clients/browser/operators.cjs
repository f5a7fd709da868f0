// Opens the operators' page in Chromium as a person would: with the link of `wsgw open`.
"use strict";

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("./chromium.cjs");
const { Serve, until } = require("../harness.cjs");

/** What a browser says of requests that the page itself ends, or that are refused on purpose. */
const EXPECTED = /ERR_ABORTED|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|status of (400|401|403|404|409|500|503)/;

/** A tab with the page; `tab.problems` are errors of the page and violations of its policy. */
async function open(context, serve, { width = 1400, scheme = "light", at = "#/" } = {}) {
  const tab = await context.newPage();
  tab.problems = [];
  const problem = (words) => EXPECTED.test(words) || tab.problems.push(words);
  tab.on("pageerror", (error) => problem(String(error)));
  tab.on("console", (line) => problem(line.text()));
  await tab.setViewport({ width, height: 800 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const link = (await serve.cli("open")).trim();
  const answer = await tab.goto(link);
  if (answer.status() !== 200) throw new Error(`the page: ${answer.status()}`);
  if (at !== "#/") await go(tab, at);
  await live(tab);
  return tab;
}

/** Goes to a part of the page, as a link does. */
const go = (tab, at) => tab.evaluate((hash) => { location.hash = hash; }, at);

/** Waits until what the page shows is what is. */
const live = (tab) => says(tab, "#live", "Live");

/** The visible text of an element, as it is written. */
const words = (tab, selector) =>
  tab.$$eval(selector, (all) => all.filter((one) => one.checkVisibility()).map((one) => one.innerText.replace(/\s+/g, " ").trim()).join(" | "));

/** Waits for text: all of it, or what matches a pattern. */
async function says(tab, selector, wanted) {
  let seen = "";
  const fits = (text) => (wanted instanceof RegExp ? wanted.test(text) : text === wanted);
  return until(async () => fits((seen = await words(tab, selector))) && seen,
    () => `${selector} to say ${wanted}, not ${JSON.stringify(seen)}`);
}

async function withPage(args, listener, act, control) {
  const serve = await Serve.start(args, listener, 0, control);
  const browser = await chromium();
  try {
    await act(serve, browser);
  } finally {
    await browser.close();
    await serve.stop();
  }
}

/** A config file with gateways beside the one of the flags. */
function config(text) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "wsgw-page-"));
  process.on("exit", () => fs.rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, "wsgw.toml");
  fs.writeFileSync(file, text);
  return file;
}

module.exports = { config, go, live, open, says, withPage, words };
