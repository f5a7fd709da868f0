#!/usr/bin/env bash
# Three nodes and a NATS server on this machine, until Ctrl-C. It needs nats-server and wsgw.
#     examples/cluster/run.sh
#     wsgw connect ws://127.0.0.1:10225/room1    # in a second terminal
#     wsgw connect ws://127.0.0.1:10226/room1    # in a third one: what one sends, both see
set -euo pipefail
directory=$(mktemp -d)
config=$(cd "$(dirname "$0")" && pwd)/node.toml
nats=${NATS_PORT:-4223}
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null; wait; rm -rf "$directory"' EXIT
trap 'exit 0' INT TERM

cat >"$directory/nats.conf" <<END
listen: 127.0.0.1:$nats
jetstream { store_dir: "$directory/nats" }
END
nats-server -c "$directory/nats.conf" >"$directory/nats.log" 2>&1 &

for node in 1 2 3; do
  mkdir "$directory/$node"
  sed "s/4222/$nats/; s/name = .*/name = \"node $node\"/" "$config" >"$directory/$node/wsgw.toml"
  wsgw serve --config "$directory/$node/wsgw.toml" --port $((10224 + node)) \
    --control 127.0.0.1:$((10234 + node)) --log-dir "$directory/$node" --quiet &
done
wait
