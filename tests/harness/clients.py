"""WebSocket clients: one that behaves, and one that writes bytes as they are."""

import base64
import os
import socket
import struct
import time

from .process import PATIENCE


class Client:
    """A WebSocket client whose waits have an end."""

    def __init__(self, inner):
        self.inner = inner

    def send(self, message):
        self.inner.send(message)

    def recv(self, timeout=PATIENCE):
        return self.inner.recv(timeout=timeout)

    def recv_many(self, count):
        return [self.recv() for _ in range(count)]

    def close(self, code=1000, reason=""):
        self.inner.close(code, reason)

    def await_close(self, timeout=PATIENCE):
        """The code and reason of the server's Close; anything before it is thrown away."""
        from websockets.exceptions import ConnectionClosed

        deadline = time.monotonic() + timeout
        while True:
            try:
                self.inner.recv(timeout=max(0.01, deadline - time.monotonic()))
            except ConnectionClosed as closed:
                received = closed.rcvd
                return (received.code, received.reason) if received else (1006, "")

    @property
    def subprotocol(self):
        return self.inner.subprotocol


def ws_client(url, target="/", **options):
    """A client of a URL; for `ws+unix://PATH`, `target` is what it asks for there."""
    from websockets.sync.client import connect, unix_connect

    options.setdefault("compression", None)
    options.setdefault("proxy", None)
    options.setdefault("max_size", None)
    options.setdefault("open_timeout", PATIENCE)
    options.setdefault("close_timeout", PATIENCE)
    options.setdefault("ping_interval", None)
    # Unread messages must not keep it from seeing a Close.
    options.setdefault("max_queue", None)
    if url.startswith("ws+unix://"):
        scheme = "wss" if "ssl" in options else "ws"
        link = unix_connect(url.removeprefix("ws+unix://"), f"{scheme}://localhost{target}", **options)
    else:
        link = connect(url, **options)
    return Client(link.__enter__())


class Raw:
    """A client that writes bytes as they are; `tls` is an `ssl.SSLContext`. It connects to a port of
    this machine, or to the path of a unix socket.

    `receive_buffer` is that of its socket, small for a client that takes little at a time.
    """

    def __init__(self, port, tls=None, receive_buffer=None):
        is_tcp = isinstance(port, int)
        self.sock = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", port) if is_tcp else str(port))
        self.port = port if is_tcp else 80
        self.buffer = b""
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="127.0.0.1")

    def write(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def head(self, path="/", headers=(), method="GET", version="1.1", upgrade=True):
        """The bytes of a request's head; `headers` replace or add (None: leave out)."""
        lines = {"Host": f"127.0.0.1:{self.port}"}
        if upgrade:
            key = base64.b64encode(os.urandom(16)).decode()
            lines |= {"Upgrade": "websocket", "Connection": "Upgrade",
                      "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
        extra = []
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            if name in lines:
                lines[name] = value
            else:
                extra.append((name, value))
        pairs = [(n, v) for n, v in [*lines.items(), *extra] if v is not None]
        text = f"{method} {path} HTTP/{version}\r\n"
        text += "".join(f"{n}: {v}\r\n" for n, v in pairs) + "\r\n"
        return text.encode("latin-1")

    def request(self, path="/", headers=(), **options):
        """Writes the head of a request; the options are those of `head`."""
        self.write(self.head(path, headers, **options))
        return self

    def read_exactly(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"closed after {self.buffer!r}")
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def response(self, body=True):
        """Status, headers (lower case), body of an HTTP answer; to HEAD it has no body."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"closed after {self.buffer!r}")
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        status = int(first.split()[1])
        found = b""
        if body and "content-length" in headers:
            found = self.read_exactly(int(headers["content-length"]))
        return status, headers, found.decode()

    def upgrade(self, path="/", headers=()):
        """Shakes hands."""
        self.request(path, headers)
        status, found, body = self.response()
        assert status == 101, (status, body)
        return self

    def frame(self, opcode, payload=b"", fin=True, masked=True, rsv=0):
        """Writes one frame."""
        self.write(encode_frame(opcode, payload, fin, masked, rsv))

    def read_frame(self):
        """FIN, opcode and payload of the next frame."""
        first, second = self.read_exactly(2)
        assert not second & 0x80, "a server's frame is not masked"
        length = read_length(second, self.read_exactly)
        return bool(first & 0x80), first & 0x0F, self.read_exactly(length)

    def read_close(self):
        """Code and reason of the Close frame; frames before it are thrown away."""
        while True:
            _, opcode, payload = self.read_frame()
            if opcode == 8:
                if not payload:
                    return None, ""
                return struct.unpack(">H", payload[:2])[0], payload[2:].decode()

    def at_eof(self):
        """Reads to the end; true if it ends in order, false if by a reset."""
        try:
            while self.sock.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return False

    def reset(self):
        """Closes it with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


def encode_frame(opcode, payload=b"", fin=True, masked=True, rsv=0):
    """The bytes of one frame."""
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytes([(0x80 if fin else 0) | (rsv << 4) | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    mask = b"\x12\x34\x56\x78"
    pattern = (mask * (len(payload) // 4 + 1))[: len(payload)]
    scrambled = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return head + mask + scrambled.to_bytes(len(payload), "big")


def close_payload(code, reason=b""):
    return struct.pack(">H", code) + reason


def read_length(second, read_exactly):
    """The length of a frame whose second byte this is; longer ones stand in the bytes behind it."""
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", read_exactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", read_exactly(8))
    return length
