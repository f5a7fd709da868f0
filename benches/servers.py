"""`wsgw bench` against several servers: the measurements behind `benches/compare.sh --servers`.

Each server has one CPU, and `wsgw bench` another. A server is started anew for each run; the runs of
the servers are interleaved, and the figures are medians.
"""

import json
import os
import statistics
import subprocess
import tempfile

SECONDS = 3

SERVERS = ["wsgw", "Bun", "Node ws", "wsgw, `cat`", "websocketd `cat`"]

#: What a row is called, how servers are to route, the flags, and what is shown of the report.
WORKLOADS = [
    ("echo, 100 connections", "sender", ["--mode", "echo", "-c", "100"],
     [("round trips/s", "rate"), ("p50", "p50"), ("p99", "p99")]),
    ("the same at 5,000 messages/s", "sender", ["--mode", "echo", "-c", "100", "--rate", "5000"],
     [("p50", "p50"), ("p99", "p99")]),
    ("one message to 1,000", "all", ["-c", "1000"], [("deliveries/s", "rate")]),
    ("the same, 100 messages/s", "all", ["-c", "1000", "--rate", "100"],
     [("p50", "p50"), ("p99", "p99")]),
    ("opening and closing, 10 at a time", "sender", ["--mode", "connect", "-c", "10"],
     [("connections/s", "rate"), ("p99", "p99")]),
]


def bench(c, command, route, flags):
    """The report of one run, or nothing where a server cannot do it."""
    if not command("0", route):
        return None
    with c.Server(lambda port: command(port, route)) as server, tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [c.BINARY, "bench", f"127.0.0.1:{server.port}", "-d", f"{SECONDS}s", "--json", *flags],
            capture_output=True, text=True, env=dict(os.environ, HOME=home))
    if done.returncode:
        raise SystemExit(f"{done.args}: {done.stderr}{done.stdout}")
    report = json.loads(done.stdout)
    assert report["lost"] == report["duplicates"] == 0, report
    return report


def shown(key, values):
    figure = statistics.median(values)
    if key == "rate":
        return f"{figure:,.0f}"
    return f"{figure * 1000:.0f} µs" if figure < 1 else f"{figure:.1f} ms"


def run(c, rounds):
    """`c` is `compare`, whose servers and CPUs are used."""
    names = [name for name in SERVERS if name in c.PEERS]
    print(f"Medians of {rounds} interleaved rounds of {SECONDS} s.\n")
    print("| load | | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for title, route, flags, figures in WORKLOADS:
        reports = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                report = bench(c, c.PEERS[name], route, flags)
                reports[name] += [report] if report else []
        for label, key in figures:
            values = {name: [r[key] if key == "rate" else r["latency_ms"][key] for r in found]
                      for name, found in reports.items()}
            row = [shown(key, values[name]) if values[name] else "–" for name in names]
            print(f"| {title} | {label} | " + " | ".join(row) + " |", flush=True)
            title = ""
