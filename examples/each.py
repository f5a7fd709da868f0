#!/usr/bin/env python3
"""Runs a program for each connection, as websocketd does: wsgw serve -- python3 each.py COMMAND ARG...

A text message of a client is a line on the stdin of its own program, and each line of that program's stdout
goes to that client alone. The connection ends with the program, and the program with the connection.
"""
import json
import os
import queue
import subprocess
import sys
import threading

WAITING = 256  # lines that may wait for one program

programs = {}  # conn -> Program
stdout = threading.Lock()


def write(**thing):
    with stdout:
        print(json.dumps(thing), flush=True)


class Program:
    def __init__(self, event):
        self.conn = event["conn"]
        env = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in event["headers"].items()}
        env |= {"PATH_INFO": event["path"], "QUERY_STRING": event["query"],
                "REMOTE_ADDR": event["remote"].rpartition(":")[0] or event["remote"]}
        self.process = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, **env}, encoding="utf-8", errors="replace")
        self.lines = queue.Queue(WAITING)
        for task in (self.feed, self.relay):
            threading.Thread(target=task, daemon=True).start()

    def feed(self):
        try:
            while (line := self.lines.get()) is not None:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()
            self.process.stdin.close()
        except OSError:
            pass  # It has ended; the client hears of that.

    def relay(self):
        for line in self.process.stdout:
            write(command="send", connections=[self.conn], message=line.removesuffix("\n"))
        self.process.wait()
        if self.conn in programs:
            write(command="close", conn=self.conn, reason="the program has ended")

    def take(self, line):
        try:
            self.lines.put_nowait(line)
        except queue.Full:
            write(command="close", conn=self.conn, code=4008, reason="the program does not read")


for line in sys.stdin:
    event = json.loads(line)
    if event["event"] == "onClientOpen":
        programs[event["conn"]] = Program(event)
    elif event["event"] == "onMessage":
        # Nobody else gets it. A push has no connection, and goes to all as it is.
        if event["conn"]:
            write(id=event["id"], connections=[])
            if event["conn"] in programs and "base64" not in event:
                programs[event["conn"]].take(" ".join(event["message"].splitlines()))
        else:
            write(id=event["id"])
    elif event["event"] == "onClientClose":
        if program := programs.pop(event["conn"], None):
            program.process.terminate()
