"""Clients of streams over plain HTTP."""

import json

from .clients import Raw


class Event:
    """One event of a stream of them: its fields as they came, and what they mean."""

    def __init__(self, fields):
        self.fields = fields
        values = dict(fields)
        assert len(values) == len(fields), f"a field twice: {fields}"
        self.name = values.get("event", "message")
        self.id = values.get("id")
        self.data = json.loads(values["data"]) if "data" in values else None

    def __repr__(self):
        return repr(self.fields)


class Stream(Raw):
    """Asks for a stream, and reads what comes; the options of a request are those of `Raw.head`."""

    def __init__(self, port, path, headers=(), tls=None, receive_buffer=None, **request):
        super().__init__(port, tls, receive_buffer)
        self.write(self.head(path, headers, **{"upgrade": False, **request}))
        if request.get("method") == "HEAD":
            # Its answer has the length of a body that does not come.
            self.status, self.headers, self.text = self.response(body=False)
        else:
            self.status, self.headers, self.text = self.response()
        self.kind = self.headers.get("content-type", "").split(";")[0]
        self.hello = None
        # The answer of a poll has its length, and it is whole.
        if self.status == 200 and request.get("method", "GET") == "GET" and "content-length" not in self.headers:
            if self.kind == "application/x-ndjson":
                self.hello = self.line()
            elif self.kind == "text/event-stream":
                self.first = self.event()
                self.hello = self.first.data

    def text_line(self):
        """The next line without its newline; None at the end."""
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                assert not self.buffer, f"half a line at the end: {self.buffer}"
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def line(self, keepalives=False):
        """The next line's JSON; None at the end. Keepalives are left out if nobody wants them."""
        while (text := self.text_line()) is not None:
            found = json.loads(text)
            if found or keepalives:
                return found
        return None

    def event(self, comments=False):
        """The next event (comments only if wanted, as text); None at the end."""
        fields, said = [], []
        while (text := self.text_line()) is not None:
            if text.startswith(":"):
                said.append(text)
            elif text:
                name, _, value = text.partition(":")
                fields.append((name, value.removeprefix(" ")))
            elif fields:
                return Event(fields)
            elif comments and said:
                return "\n".join(said)
        assert not fields, f"half an event at the end: {fields}"
        return None

    def message(self):
        """The next message or other frame as its JSON, or as its line of a raw stream."""
        if self.kind == "text/event-stream":
            event = self.event()
            if event is None:
                return None
            if event.name == "close":
                return {"close": event.data["code"], "reason": event.data["reason"]}
            is_message = "message" in event.data or "base64" in event.data
            assert event.id == (event.data.get("at") if is_message else None), event
            return event.data
        return self.line() if self.kind == "application/x-ndjson" else self.text_line()

    def messages(self, count):
        return [self.message() for _ in range(count)]
