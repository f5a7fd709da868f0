#!/usr/bin/env node
// Every message goes to everybody, in upper case.
const lines = require("node:readline").createInterface({ input: process.stdin });

lines.on("line", (line) => {
  const event = JSON.parse(line);
  if (event.event === "onMessage") {
    event.message = event.message.toUpperCase();
    process.stdout.write(JSON.stringify(event) + "\n");
  }
});
