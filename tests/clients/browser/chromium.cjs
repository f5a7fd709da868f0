// Starts a Chromium without a window.
"use strict";

const { execFileSync } = require("node:child_process");
const puppeteer = require("puppeteer-core");

/** More arguments of Chromium may be given. */
function chromium(...more) {
  const found = execFileSync("sh", ["-c", "command -v chromium || command -v chromium-browser"]);
  return puppeteer.launch({
    executablePath: String(found).trim(),
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ...more],
  });
}

module.exports = { chromium };
