#!/usr/bin/env bash
# Sends each message to all clients, in upper case. bash reads the lines, and jq edits the JSON.
while IFS= read -r line; do
  jq -c '.message |= ascii_upcase' <<<"$line"
done
