"""A client of the endurance tests that listens by a stream over plain HTTP instead of a WebSocket."""

import json

from client import Client

OPENING = "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n"


class Streamer(Client):
    """As a `Client`, but it cannot send. It passes on frames; what ends its stream becomes its close
    code."""

    opening = OPENING
    good = 200

    def frames(self):
        end = self.buffer.rfind(b"\n")
        lines = self.buffer[: end + 1].decode().splitlines()
        del self.buffer[: end + 1]
        for line in lines:
            # Of an event the data alone: it says all that the other fields say.
            text = line.removeprefix("data: ")
            if text.startswith("{") and text != "{}":
                self.line(json.loads(text), text.encode())

    def line(self, frame, text):
        if "close" in frame or frame.keys() == {"code", "reason"}:
            self.close_code = frame.get("close", frame.get("code"))
        else:
            self.on_message(self, 1, text)

    async def leave(self):
        """It has no other way to say so."""
        self.transport.abort()
