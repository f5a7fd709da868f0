#!/usr/bin/env bash
# Every message goes to everybody, in upper case: bash reads the lines, jq the JSON.
while IFS= read -r line; do
  jq -c '.message |= ascii_upcase' <<<"$line"
done
