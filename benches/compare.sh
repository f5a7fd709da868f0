#!/usr/bin/env bash
# Compares wsgw with its peers on this machine, in one run: what a delivery, a round trip and an idle
# connection cost each server. Sets up what it needs under target/ (Bun and ws from npm, websockets
# from PyPI; websocketd is measured where it is installed). Workloads:
#
#   fanout:CLIENTS:BYTES:BURST   BURST messages at once to all, again and again (µs CPU a delivery)
#   echo:CLIENTS                 a reply to each message (µs CPU a round trip)
#   idle:CLIENTS                 connections that say nothing (KiB a connection, µs CPU to open one)
#
#   benches/compare.sh [--rounds N] [WORKLOAD...]    a table, in Markdown
#   benches/compare.sh --growth FILE.svg             wsgw alone, from 100 to 18,000 connections and
#                                                    from 32 bytes to 64 KiB, as a table and a plot
#   benches/compare.sh --channels                    wsgw alone: channels and history beside the same without
#   benches/compare.sh --streams                     wsgw alone: clients of streams beside WebSocket clients
#   benches/compare.sh --files                       wsgw beside nginx: static files (needs nginx and wrk)
#   benches/compare.sh --servers                     `wsgw bench` against each server: rates and latencies
#   benches/compare.sh --cluster                     several nodes over NATS (needs nats-server)
#   benches/compare.sh --compression                 a message of JSON to 1,000 clients, compressed and not
#   benches/compare.sh --listeners                   100 clients that send as fast as they may, through
#                                                    listeners in several languages
set -euo pipefail
cd "$(dirname "$0")/.."
# WSGW_BIN=FILE is measured in place of what is built here.
[ -n "${WSGW_BIN:-}" ] || cargo build --release --locked --quiet
tools=$PWD/target/tests
[ -x "$tools/py/bin/python" ] || python3 -m venv "$tools/py"
"$tools/py/bin/pip" install -q --disable-pip-version-check -r tests/requirements.txt
mkdir -p "$tools/bench"
[ -d "$tools/bench/node_modules/nats" ] \
  || (cd "$tools/bench" && npm install --no-fund --no-audit --silent bun@1 ws@8 nats@2)
export NODE_PATH=$tools/bench/node_modules BUN=$tools/bench/node_modules/.bin/bun
exec "$tools/py/bin/python" benches/compare.py "$@"
