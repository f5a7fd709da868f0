#!/usr/bin/env bash
# A pure producer, for `--hooks none`: a line of vmstat to every client each second.
vmstat -n 1 | while IFS= read -r line; do
  jq -cn --arg message "$line" '{command: "send", message: $message}'
done
