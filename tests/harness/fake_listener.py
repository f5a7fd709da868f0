#!/usr/bin/env python3
"""A listener with many modes, for the tests.

It records every line that it is sent, with its process id, so that a test can tell what each
incarnation got. What it answers is scripted by the messages themselves: one that begins with `!`
is a directive (see `Listener.directive`), everything else is echoed, as `cat` would. Modes that
hold from the start are switches of its command line.
"""

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.parse


class Listener:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.record_fd = None
        if options.record:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self.record_fd = os.open(options.record, flags, 0o600)

    def record(self, **what):
        if self.record_fd is not None:
            text = json.dumps({"pid": os.getpid(), "at": time.monotonic(), **what})
            os.write(self.record_fd, text.encode() + b"\n")

    def write(self, data):
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        with self.lock:
            while data:
                data = data[os.write(1, data) :]

    def line(self, data):
        self.write(data + "\n" if isinstance(data, str) else data + b"\n")

    def answer(self, event, keys):
        self.line(json.dumps({"id": event["id"], **keys}))

    def directive(self, text, event, raw):
        word, _, rest = text[1:].partition(" ")
        fill = rest.replace("$ID", str(event["id"])).replace("$CONN", str(event["conn"]))
        if word == "answer":  # the answer, with these keys
            self.answer(event, json.loads(fill))
        elif word == "whoami":  # the sender alone gets its own name
            self.answer(event, {"message": event["conn"], "connections": [event["conn"]]})
        elif word == "raw":  # a JSON string or an array of them: lines as they are
            lines = json.loads(fill)
            for one in [lines] if isinstance(lines, str) else lines:
                self.line(one)
        elif word == "repeat":  # a line so many times, then the echo
            count, _, one = fill.partition(" ")
            for _ in range(int(count)):
                self.line(one)
            self.line(raw)
        elif word == "hex":  # bytes as they are, then the echo
            self.write(bytes.fromhex(rest))
            self.line(raw)
        elif word == "none":  # no answer
            pass
        elif word == "exit":
            os._exit(int(rest or 1))
        elif word == "echo-exit":  # an answer, and gone
            self.line(raw)
            os._exit(1)
        elif word == "last":  # the answer without its newline, and gone
            self.write(json.dumps({"id": event["id"], "message": rest}))
            os._exit(0)
        elif word == "half":  # half a line, and gone
            self.write('{"id":%d,"mess' % event["id"])
            os._exit(0)
        elif word == "close-stdout":
            os.close(1)
        elif word == "hang":
            while True:
                time.sleep(3600)
        elif word == "big":  # a line of so many bytes that is no answer, then the echo
            self.line(b"x" * int(rest))
            self.line(raw)
        elif word == "stderr":
            os.write(2, json.loads(rest).encode() + b"\n")
            self.line(raw)
        elif word == "flood":  # so many lines on stderr, then the echo
            for n in range(int(rest)):
                os.write(2, b"flood %d\n" % n)
            self.line(raw)
        elif word == "delay":  # the echo after so many seconds, others may overtake it
            timer = threading.Timer(float(rest), self.line, [raw])
            timer.daemon = True
            timer.start()
        elif word == "wait-for":  # the echo once that file is there
            threading.Thread(target=self.wait_for, args=(rest, raw), daemon=True).start()
        elif word == "grandchild":  # one that ignores SIGTERM and holds stdout
            code = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(3600)"
            child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
            self.answer(event, {"message": str(child.pid)})
        elif word == "run":  # the output of a command of the shell
            done = subprocess.run(rest, shell=True, capture_output=True, text=True,
                                  stdin=subprocess.DEVNULL)
            self.answer(event, {"message": done.stdout + done.stderr})
        elif word == "env":
            self.answer(event, {"message": json.dumps(dict(os.environ))})
        elif word == "process":
            fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
            status = open("/proc/self/status").read()
            masks = {
                line.split(":")[0]: line.split()[1]
                for line in status.splitlines()
                if line.startswith("Sig")
            }
            here = {
                "pid": os.getpid(),
                "pgid": os.getpgid(0),
                "fds": fds,
                "cwd": os.getcwd(),
                "signals": masks,
            }
            self.answer(event, {"message": json.dumps(here)})
        else:
            raise SystemExit(f"no such directive: {text}")

    def wait_for(self, path, raw):
        while not os.path.exists(path):
            time.sleep(0.005)
        self.line(raw)

    def handle(self, raw):
        self.record(line=raw)
        event = json.loads(raw)
        text = event["message"]
        if event["event"] == "onHandshake":
            text = urllib.parse.unquote(event["query"])
        if self.options.crash_on is not None and text == self.options.crash_on:
            os._exit(3)
        if self.options.crash_on_event == event["event"]:
            os._exit(3)
        if self.options.slow and event["event"] == "onMessage":
            time.sleep(self.options.slow)
        if text.startswith("!") and event["event"] in ("onMessage", "onHandshake"):
            self.directive(text, event, raw)
        elif self.options.silent:
            pass
        elif self.options.garble:
            self.answer(event, json.loads(self.options.garble))
        else:
            self.line(raw)

    def lines(self):
        """Lines of stdin, in batches of what is there."""
        rest = b""
        while True:
            data = os.read(0, 65536)
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            yield [line.decode("utf-8") for line in whole]

    def shuffle(self):
        """Answers in random order, holding back some as long as more comes."""
        held = []
        rng = random.Random(7)
        for batch in self.lines():
            for raw in batch:
                self.record(line=raw)
                held.append(raw)
            rng.shuffle(held)
            more = select.select([0], [], [], 0.002)[0]
            keep = len(held) // 3 if more else 0
            while len(held) > keep:
                self.line(held.pop())

    def run(self):
        options = self.options
        if options.ignore_term:
            signal.signal(signal.SIGTERM, lambda *_: self.record(term=True))
        else:
            signal.signal(signal.SIGTERM, self.terminated)
        self.record(start=True)
        if options.stderr:
            os.write(2, options.stderr.encode() + b"\n")
        if options.exit_first and self.starts() <= options.exit_first:
            time.sleep(options.live)
            os._exit(7)
        for text in json.loads(options.first_lines):
            self.line(text)
        if options.never_reads:
            blocker = options.never_reads
            while not os.path.exists(blocker):
                time.sleep(0.01)
        if options.stderr_flood:
            os.write(2, b"y" * 5_000_000 + b"\n")
        if options.shuffle:
            self.shuffle()
        else:
            for batch in self.lines():
                for raw in batch:
                    self.handle(raw)
        self.record(eof=True)
        if options.ignore_eof:
            while True:
                signal.pause()

    def starts(self):
        with open(self.options.record) as file:
            return sum(1 for line in file if '"start": true' in line)

    def terminated(self, *_):
        self.record(term=True)
        os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--record")
    parser.add_argument("--silent", action="store_true", help="answers nothing but directives")
    parser.add_argument("--garble", help="answers everything with these keys")
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--slow", type=float, help="seconds for each message")
    parser.add_argument("--crash-on", help="exits at this message")
    parser.add_argument("--crash-on-event", help="exits at this event")
    parser.add_argument("--first-lines", default="[]", help="JSON array of lines to begin with")
    parser.add_argument("--never-reads", metavar="FILE", help="until this file is there")
    parser.add_argument("--stderr", help="a line to begin with on stderr")
    parser.add_argument("--stderr-flood", action="store_true")
    parser.add_argument("--exit-first", type=int, help="that many incarnations exit at once")
    parser.add_argument("--live", type=float, default=0, help="seconds before that exit")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--ignore-eof", action="store_true")
    Listener(parser.parse_args()).run()


if __name__ == "__main__":
    main()
