#!/usr/bin/env bash
# Compares wsgw with what the Debian packages and npm have, on this machine, in one run: the server's
# CPU time (its children's too) for each delivery. Needs python3 with `websockets`, node with `ws`.
#   benches/compare.sh [CLIENTS] [MESSAGES]
# The server is pinned to one CPU, the clients to another. Ratios count, not figures.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
tools=$PWD/target/tests
[ -x "$tools/py/bin/python" ] || { python3 -m venv "$tools/py" && "$tools/py/bin/pip" install -q -r tests/py/requirements.txt; }
mkdir -p "$tools/node" && cp tests/node/package.json "$tools/node/"
[ -d "$tools/node/node_modules/ws" ] || (cd "$tools/node" && npm install --no-fund --no-audit --silent)
export NODE_PATH=$tools/node/node_modules
exec "$tools/py/bin/python" benches/compare.py "${1:-500}" "${2:-300}"
