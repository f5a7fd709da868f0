"""A listener with many faults: fake_listener.py RECORD-DIR MODE [ARGS…]. What it is sent is
recorded, a file for each incarnation."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

record = pathlib.Path(sys.argv[1])
mode, args = sys.argv[2], sys.argv[3:]
number = len(list(record.iterdir()))
out = open(record / f"{number}-{os.getpid()}", "w", buffering=1)


def say(thing):
    sys.stdout.write((thing if isinstance(thing, str) else json.dumps(thing)) + "\n")
    sys.stdout.flush()


def events():
    for line in sys.stdin:
        out.write(line)
        yield json.loads(line)


def cat():
    for event in events():
        say(event)


if mode == "cat":
    cat()
elif mode == "answer":
    # Every message is answered with these members; ID stands for its id, CONN for its sender.
    for event in events():
        if event["event"] in ("onMessage", "onHandshake"):
            for text in args:
                say(text.replace("ID", str(event["id"])).replace("CONN", str(event["conn"])))
elif mode == "script":
    # The message is what is written; onHandshake is accepted.
    for event in events():
        if event["event"] == "onMessage":
            say(event["message"].replace("ID", str(event["id"])))
        elif event["event"] == "onHandshake":
            say({"id": event["id"]})
elif mode == "handshake":
    # The query is the answer.
    import urllib.parse
    for event in events():
        if event["event"] == "onHandshake":
            query = urllib.parse.unquote(event["query"])
            if query != "silence":
                say(query.replace("ID", str(event["id"])))
        else:
            say({"id": event["id"]})
elif mode == "silent":
    for event in events():
        pass
elif mode == "shuffle":
    # Answers batches in random order.
    import selectors
    rng, waiting, buffer = random.Random(7), [], b""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    os.set_blocking(0, False)
    ended = False
    while not ended or waiting:
        if selector.select(0.005):
            chunk = os.read(0, 65536)
            ended = chunk == b""
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                out.write(line.decode() + "\n")
                event = json.loads(line)
                if event["event"] == "onMessage":
                    waiting.append(event["id"])
            if not ended and len(waiting) < 100:
                continue
        rng.shuffle(waiting)
        sys.stdout.write("".join('{"id":%d}\n' % id for id in waiting))
        sys.stdout.flush()
        waiting = []
        if ended:
            break
elif mode == "crash":
    # Crashes on a message that begins with ARGS[0]; with ARGS[1] only so many times.
    limit = int(args[1]) if len(args) > 1 else 10**9
    for event in events():
        if event["message"].startswith(args[0]) and number < limit:
            os.kill(os.getpid(), signal.SIGKILL)
        say(event)
elif mode == "close-stdout":
    for event in events():
        if event["message"] == "close" and number == 0:
            os.close(1)
            time.sleep(60)
        say(event)
elif mode == "hang":
    for event in events():
        if event["message"] == "hang" and number == 0:
            time.sleep(600)
        say(event)
elif mode == "unterminated":
    for event in events():
        if event["event"] == "onMessage" and number == 0:
            sys.stdout.write(json.dumps({"id": event["id"], "message": "last words"}))
            sys.stdout.flush()
            os._exit(0)
        say(event)
elif mode == "flood":
    # More stderr than any pipe holds, while stdin is not read.
    sys.stdin.readline()
    for i in range(30000):
        print("noise", i, "x" * 100, file=sys.stderr)
    cat()
elif mode == "children":
    # A grandchild that holds stdout open and ignores SIGTERM.
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    (record.parent / "grandchild").write_text(str(child.pid))
    cat()
elif mode == "ignore-end":
    signal.signal(signal.SIGTERM, lambda *_: (out.write('{"event":"TERM","message":""}\n'), sys.exit(0)))
    for event in events():
        say(event)
    while True:
        time.sleep(1)
elif mode == "slow":
    for event in events():
        if event["event"] == "onMessage":
            time.sleep(float(args[0]))
        say({"id": event["id"]})
elif mode == "buffered":
    # As a program that does not flush: nothing is seen until 1 MiB.
    held = []
    for event in events():
        held.append(event)
elif mode == "environment":
    say({"command": "send", "message": "ready"})
    for event in events():
        if event["event"] == "onMessage":
            say({"id": event["id"], "message": json.dumps(dict(os.environ, CWD=os.getcwd()))})
elif mode == "producer":
    # --hooks none: its stdin is at its end.
    assert sys.stdin.read() == ""
    n = 0
    while True:
        say({"command": "send", "message": f"tick {n}" + "x" * int(args[0] if args else 0)})
        n += 1
        time.sleep(float(args[1]) if len(args) > 1 else 0.02)
elif mode == "own-send":
    # Pushes to its own gateway by the send command.
    for event in events():
        if event["event"] == "onMessage" and event["conn"]:
            done = subprocess.run([args[0], "send", "from the listener"], capture_output=True, text=True)
            say({"id": event["id"], "message": done.stdout.strip() + done.stderr.strip()})
else:
    sys.exit(f"no mode {mode}")
