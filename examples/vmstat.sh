#!/usr/bin/env bash
# Sends a line of vmstat to all clients each second. Run it with `--hooks none`, because it reads no events.
vmstat -n 1 | while IFS= read -r line; do
  jq -cn --arg message "$line" '{command: "send", message: $message}'
done
