"""A WebSocket client of the endurance tests: a bare socket, so that it can be cruel to it."""

import asyncio
import base64
import os
import socket
import ssl
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import encode_frame  # noqa: E402

OPENING = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
)


#: Who the server is does not matter here.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


class Refused(Exception):
    """The handshake was refused, with this status."""


class Client(asyncio.Protocol):
    """`label` names it in its messages and its path."""

    #: The request, and the status that opens it.
    opening = OPENING
    good = 101

    def __init__(self, label, on_message):
        self.label = label
        self.on_message = on_message
        self.status = None
        self.close_code = None
        self.buffer = bytearray()
        self.transport = None
        self.half = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        loop = asyncio.get_running_loop()
        self.opened = loop.create_future()
        self.ended = loop.create_future()

    @classmethod
    async def open(cls, port, path, label, on_message, narrow=False, tls=False, headers=""):
        sock = socket.socket()
        sock.setblocking(False)
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(sock, ("127.0.0.1", port)), 20)
            security = {"ssl": TLS, "server_hostname": "127.0.0.1"} if tls else {}
            _, self = await loop.create_connection(
                lambda: cls(label, on_message), sock=sock, **security
            )
        except BaseException:
            sock.close()
            raise
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(cls.opening.format(path=path, port=port, key=key, headers=headers).encode())
        try:
            await asyncio.wait_for(asyncio.shield(self.opened), 30)
        except BaseException:
            self.transport.abort()
            raise
        return self

    # asyncio's side.

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=65536)

    def pause_writing(self):
        self.may_write.clear()

    def resume_writing(self):
        self.may_write.set()

    def connection_lost(self, _error):
        self.may_write.set()
        if not self.opened.done():
            self.opened.set_exception(Refused("lost"))
            # Nobody may be waiting for it.
            self.opened.exception()
        if not self.ended.done():
            self.ended.set_result(self.close_code)

    def data_received(self, data):
        self.buffer += data
        if self.status is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.status = int(self.buffer.split(b" ", 2)[1])
            del self.buffer[: end + 4]
            if self.status == self.good:
                self.opened.set_result(None)
            else:
                self.opened.set_exception(Refused(self.status))
                self.transport.abort()
        if self.status == self.good:
            self.frames()

    def frames(self):
        at, buffer = 0, self.buffer
        while len(buffer) - at >= 2:
            length, head = buffer[at + 1] & 0x7F, 2
            if length == 126:
                head = 4
            elif length == 127:
                head = 10
            if len(buffer) - at < head:
                break
            if head > 2:
                length = int.from_bytes(buffer[at + 2 : at + head], "big")
            if len(buffer) - at - head < length:
                break
            opcode = buffer[at] & 0x0F
            payload = bytes(buffer[at + head : at + head + length])
            at += head + length
            self.frame(opcode, payload)
        del buffer[:at]

    def frame(self, opcode, payload):
        if opcode in (1, 2):
            self.on_message(self, opcode, payload)
        elif opcode == 9:
            self.write(encode_frame(10, payload))
        elif opcode == 8:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.write(encode_frame(8, payload[:2]))
            self.transport.close()

    # What a client does.

    @property
    def over(self):
        return self.ended.done() or self.transport.is_closing()

    def write(self, data):
        if not self.over and not self.half:
            self.transport.write(data)

    async def send(self, payload, binary=False):
        await self.may_write.wait()
        self.write(encode_frame(2 if binary else 1, payload))

    async def leave(self):
        """A close as it should be."""
        self.write(encode_frame(8, b"\x03\xe8"))
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), 20)
        finally:
            self.transport.abort()

    def reset(self):
        """RST."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.over:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def half_close(self):
        """FIN without a Close."""
        if not self.over:
            self.half = True
            # With TLS there is no close_notify either.
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def torn(self):
        """Half a frame, and gone."""
        self.write(encode_frame(1, b"torn" * 50)[:40])
        self.transport.close()

    def stall(self):
        if not self.over:
            self.transport.pause_reading()

    def go_on(self):
        if not self.over:
            self.transport.resume_reading()
