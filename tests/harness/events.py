"""Streams of server-sent events on the control port."""

import http.client
import socket

from .process import PATIENCE
from .streams import Event


class Events:
    """Asks for a stream of events, and reads what comes."""

    def __init__(self, port, path, headers=(), receive_buffer=None):
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        if receive_buffer:
            self.link.sock = socket.socket()
            self.link.sock.settimeout(PATIENCE)
            self.link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.link.sock.connect(("127.0.0.1", port))
        self.link.request("GET", path, headers=dict(headers))
        self.answer = self.link.getresponse()
        self.status, self.headers = self.answer.status, dict(self.answer.getheaders())
        self.text = self.answer.read().decode() if self.status != 200 else ""

    def event(self):
        """The next event; None at the end."""
        fields = []
        while line := self.answer.readline().decode():
            text = line.removesuffix("\n")
            if text.startswith(":"):
                continue
            if text:
                name, _, value = text.partition(":")
                fields.append((name, value.removeprefix(" ")))
            elif fields:
                return Event(fields)
        assert not fields, f"half an event at the end: {fields}"
        return None

    def until(self, found, tries=30):
        """Reads on to an event of which `found` says something true, and returns that; events of
        `GET /v1/watch` come once a second."""
        seen = None
        for _ in range(tries):
            event = self.event()
            assert event is not None, f"the stream has ended; last: {seen}"
            seen = event.data
            if result := found(seen):
                return result
        raise AssertionError(f"it did not come; last: {seen}")

    def close(self):
        self.answer.close()
        self.link.close()
