"""Servers for `wsgw connect`: one that behaves, and one that does what a test says, byte by byte."""

import base64
import contextlib
import hashlib
import re
import socket
import struct
import threading
import time

from .clients import close_payload, encode_frame, read_length
from .process import PATIENCE

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@contextlib.contextmanager
def ws_server(handler, **options):
    """The URL of a server that calls `handler(connection)` for each connection."""
    from websockets.sync.server import serve

    with serve(handler, "127.0.0.1", 0, **options) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/"
        running.shutdown()


def echo(connection):
    """A handler that sends every message back."""
    for message in connection:
        connection.send(message)


class Peer:
    """A server's side of one connection, byte by byte. It has read the request's head."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.request = b""
        while b"\r\n\r\n" not in self.request:
            more = self.sock.recv(4096)
            assert more, "the client left within its request"
            self.request += more

    def header(self, name):
        """The values of a header of the request."""
        found = re.findall(rb"(?im)^" + name.encode() + rb":(.*)\r$", self.request)
        return [value.strip().decode("latin-1") for value in found]

    def accept(self, connection="Upgrade", upgrade="websocket", more="", accept=None):
        """Answers the request with a 101."""
        key = self.header("sec-websocket-key")[0].encode()
        accept = accept or base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        return self.send(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {upgrade}\r\nConnection: {connection}\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n".encode())

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def read(self):
        """The client's next frame: opcode and payload."""
        first, second = self.exactly(2)
        assert second & 0x80, "a client's frame is masked"
        size = read_length(second, self.exactly)
        mask = self.exactly(4)
        return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(self.exactly(size)))

    def read_close(self):
        """The code of the client's Close, 1005 if it has none."""
        while True:
            opcode, payload = self.read()
            if opcode == 8:
                return struct.unpack(">H", payload[:2])[0] if payload else 1005

    def send(self, data):
        self.sock.sendall(data)
        return self

    def frame(self, opcode, payload=b""):
        """Writes one frame."""
        return self.send(encode_frame(opcode, payload, masked=False))

    def bye(self, code=1000, reason=b""):
        """Writes a Close."""
        return self.frame(8, close_payload(code, reason))

    def reset(self):
        """The end of the connection will be a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self


def close_and_wait(peer):
    """The good end: our Close, the client's, the socket's."""
    peer.bye()
    peer.read_close()


class PeerServer:
    """Calls `handler(peer)` for each connection in turn; what it raised is raised at the end."""

    def __init__(self, handler):
        self.acceptor = socket.socket()
        self.acceptor.bind(("127.0.0.1", 0))
        self.acceptor.listen()
        self.port = self.acceptor.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/"
        self.handler, self.error, self.times = handler, None, []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                sock, _ = self.acceptor.accept()
            except OSError:
                return
            self.times.append(time.monotonic())
            with sock:
                try:
                    self.handler(Peer(sock))
                except (EOFError, ConnectionError):
                    pass
                except BaseException as e:
                    self.error = e

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.acceptor.shutdown(socket.SHUT_RDWR)
        self.acceptor.close()
        if not kind:
            self.thread.join(PATIENCE)
            if self.error:
                raise self.error
