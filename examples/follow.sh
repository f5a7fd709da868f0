#!/usr/bin/env bash
# Prints each message of a channel with the time, and misses none while the network or `serve` is down for a moment.
# With -w -1 it stays for ever. The first run begins with the newest message.
wsgw connect --resume -w -1 "${1:-ws://127.0.0.1:10125/news?since=last}" </dev/null |
while IFS= read -r message; do
  printf '%(%T)T %s\n' -1 "$message"
done
