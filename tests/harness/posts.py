"""Streams, and what their clients send and ask for in requests of their own."""

import json

from .clients import Raw


class Lines:
    """A stream of lines whose hello has been read."""

    def __init__(self, server, path="/", gateway="default", headers=(), **options):
        self.link = server.raw(gateway, **options)
        mark = "&" if "?" in path else "?"
        self.link.request(f"{path}{mark}stream=lines", headers, upgrade=False)
        status, self.headers, body = self.link.response()
        assert status == 200, (status, body)
        self.hello = self.frame()
        self.conn, self.token = self.hello["conn"], self.hello["post"]

    def frame(self):
        """The next frame; keepalives are skipped. None at the end."""
        while True:
            while b"\n" not in self.link.buffer:
                data = self.link.sock.recv(65536)
                if not data:
                    return None
                self.link.buffer += data
            line, _, self.link.buffer = self.link.buffer.partition(b"\n")
            if line != b"{}":
                return json.loads(line)

    def bodies(self, count):
        return [self.frame()["message"] for _ in range(count)]

    def close(self):
        self.link.close()


class Http(Raw):
    """A client that asks on one connection after the other answer was read."""

    def ask(self, method="GET", path="/", headers=(), body=None, chunks=None, version="1.1"):
        """Status, headers and body of the answer; `body` goes with its length, or in chunks."""
        self.write(self.bytes_of(method, path, headers, body, chunks, version))
        return self.response()

    def bytes_of(self, method, path="/", headers=(), body=None, chunks=None, version="1.1"):
        lines = dict(headers)
        if isinstance(body, str):
            body = body.encode()
        if chunks is not None:
            lines.setdefault("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in [*chunks, b""])
        elif body is not None:
            lines.setdefault("Content-Length", str(len(body)))
        head = self.head(path, lines, method=method, version=version, upgrade=False)
        return head + (body or b"")

    def post(self, token, body, kind=None, path="/", **options):
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["X-Wsgw-Post"] = token
        if kind:
            headers["Content-Type"] = kind
        return self.ask("POST", path, headers, body, **options)

    def poll(self, since=None, query="", **options):
        """The same for a poll: its status, position and frames."""
        asked = f"&since={since}" if since is not None else ""
        status, headers, body = self.ask("GET", f"/?stream=poll{asked}{query}", **options)
        frames = [json.loads(line) for line in body.splitlines()] if status == 200 else body
        return status, headers.get("x-wsgw-at"), frames


def http(server, gateway="default"):
    link = Http(server.port(gateway))
    server.links.append(link)
    return link
