#!/usr/bin/env node
// Sends each message to all clients, in upper case.
const lines = require("node:readline").createInterface({ input: process.stdin });

lines.on("line", (line) => {
  const event = JSON.parse(line);
  if (event.event === "onMessage") {
    event.message = event.message.toUpperCase();
    process.stdout.write(JSON.stringify(event) + "\n");
  }
});
