#!/usr/bin/env python3
"""An honest listener for the chaos test: it journals what it is told, then answers.

What an answer is follows from the message alone (its mode), so a message that is asked twice is
answered twice in the same way. It puts every connection into the lobby. The journal is one line a batch of events, written before the
answers. SIGUSR1 makes it close its stdout and live on, SIGUSR2 leave in the middle of an answer;
the file next to the journal that is named `slow` holds seconds to wait with each message.
"""

import base64
import json
import os
import signal
import sys
import time

JOURNAL = sys.argv[1]
SLOW = os.path.join(os.path.dirname(JOURNAL), "slow")


class Listener:
    def __init__(self):
        self.witnesses = set()
        self.journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.half = False
        self.closed = False

    def note(self, entries):
        text = json.dumps({"pid": os.getpid(), "events": entries}) + "\n"
        os.write(self.journal, text.encode())

    def out(self, data):
        while data and not self.closed:
            data = data[os.write(1, data) :]

    def answer(self, event, raw):
        """The answer's line, by the message's mode."""
        text = event["message"]
        if "base64" in event:
            text = base64.b64decode(event["base64"]).decode()
        mode = text.split(":", 4)[3] if text.startswith("M:") else "all"
        if mode == "others":
            answer = {"id": event["id"], "except": [event["conn"]]}
        elif mode == "self":
            answer = {"id": event["id"], "connections": [event["conn"], *sorted(self.witnesses)]}
        elif mode == "deny":
            answer = {"id": event["id"], "connections": []}
        elif mode.startswith(("to-", "join-", "leave-")):
            what, _, room = mode.partition("-")
            answer = {"id": event["id"], "channel" if what == "to" else what: room}
        else:
            return raw + b"\n"
        return json.dumps(answer).encode() + b"\n"

    def handle(self, lines):
        entries, answers = [], []
        for raw in lines:
            event = json.loads(raw)
            kind, conn = event["event"], event.get("conn")
            if kind == "onResult":
                entries.append({"event": kind, "id": 0, "conn": None, "count": event["count"]})
                continue
            entry = {"id": event["id"], "event": kind, "conn": conn}
            for key in ("path", "resumed", "left", "redelivered", "code", "channel", "members"):
                if key in event:
                    entry[key] = event[key]
            if kind == "onClientOpen":
                if event["path"].startswith("/witness"):
                    self.witnesses.add(conn)
                answers.append(b'{"id":%d,"join":"lobby"}\n' % event["id"])
            elif kind == "onClientClose":
                self.witnesses.discard(conn)
            elif kind == "onMessage":
                text = event["message"]
                if "base64" in event:
                    text = base64.b64decode(event["base64"]).decode()
                entry["message"] = text[:60]
                if ":to-r1:" in entry["message"]:
                    answers.append(b'{"command":"members","channel":"r1","ref":null}\n')
                answers.append(self.answer(event, raw))
            entries.append(entry)
            if ":poison:" in entry.get("message", ""):
                # What came before it in this batch is answered.
                self.note(entries)
                self.out(b"".join(answers[:-1]))
                os._exit(4)
        self.note(entries)
        slow = self.slowness()
        for answer in answers:
            if self.half:
                self.out(answer[: len(answer) // 2])
                os._exit(1)
            if slow:
                time.sleep(slow)
                self.out(answer)
        if not slow:
            self.out(b"".join(answers))

    def slowness(self):
        try:
            with open(SLOW) as file:
                return float(file.read() or 0)
        except (OSError, ValueError):
            return 0

    def close_stdout(self, *_):
        if not self.closed:
            self.closed = True
            os.close(1)

    def run(self):
        signal.signal(signal.SIGUSR1, self.close_stdout)
        signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "half", True))
        # A sign of life: one that is killed before it wrote anything counts as one that cannot be
        # started.
        self.out(b'{"event":"onResult"}\n')
        self.note([])
        rest = b""
        while True:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if lines:
                self.handle(lines)


try:
    Listener().run()
except OSError:
    # Its stdout was closed in the middle of a write, or wsgw is gone.
    os._exit(1)
