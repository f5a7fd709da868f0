"""Proxies for `wsgw connect`: real ones, and one of our own that does what a test says."""

import contextlib
import socket
import ssl
import struct
import subprocess
import threading

from .process import PATIENCE, free_port, tool, wait_until

#: An address that is not one of the loopback and yet leads to this machine, over its loopback.
HERE_BY_ANOTHER_NAME = "0.0.0.0"


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


@contextlib.contextmanager
def _running(command, port):
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), f"{command}")
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextlib.contextmanager
def tinyproxy(directory, *lines):
    """The port of a tinyproxy, and its log; `lines` are further ones of its configuration."""
    port, log = free_port(), directory / "tinyproxy.log"
    config = directory / "tinyproxy.conf"
    config.write_text("\n".join([
        f"Port {port}", "Listen 127.0.0.1", "Allow 127.0.0.1", "Timeout 60", "MaxClients 20",
        f'LogFile "{log}"', "LogLevel Connect", *lines]) + "\n")
    with _running([tool("tinyproxy"), "-d", "-c", str(config)], port):
        yield port, log


@contextlib.contextmanager
def microsocks(*args):
    """The port of a SOCKS 5 server."""
    port = free_port()
    with _running([tool("microsocks"), "-i", "127.0.0.1", "-p", str(port), *args], port):
        yield port


class Proxy:
    """A proxy of our own. `asks` has what it was asked for; `names` says where its names lead.

    `kind` is "http" or "socks". With an `answer` it says that, and closes. `certificate` (chain and
    key) makes it speak TLS.
    """

    def __init__(self, kind, names=None, answer=None, certificate=None):
        self.kind, self.names, self.answer, self.asks = kind, names or {}, answer, []
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        self.acceptor = socket.create_server(("127.0.0.1", 0))
        self.port = self.acceptor.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.acceptor.shutdown(socket.SHUT_RDWR)
        self.acceptor.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.acceptor.accept()
                near.settimeout(PATIENCE)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as open_:
            open_.enter_context(near)
            if self.context:
                near = open_.enter_context(self.context.wrap_socket(near, server_side=True))
            host, port = self._http(near) if self.kind == "http" else self._socks(near)
            if self.answer is not None:
                near.sendall(self.answer)
                return
            host, port = self.names.get((host, port), (host, port))
            far = open_.enter_context(socket.create_connection((host, port), PATIENCE))
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" if self.kind == "http"
                         else b"\5\0\0\1\0\0\0\0\0\0")
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join(PATIENCE)

    def _http(self, near):
        head = b""
        while b"\r\n\r\n" not in head:
            more = near.recv(4096)
            if not more:
                raise EOFError
            head += more
        self.asks.append(head.decode("latin-1"))
        host, _, port = head.split()[1].decode().rpartition(":")
        return host, int(port)

    def _socks(self, near):
        def exactly(count):
            data = b""
            while len(data) < count:
                more = near.recv(count - len(data))
                if not more:
                    raise EOFError
                data += more
            return data
        _, ways = exactly(2)
        ways = exactly(ways)
        near.sendall(b"\5\2" if 2 in ways else b"\5\0")
        user = None
        if 2 in ways:
            name = exactly(exactly(2)[1])
            user = (name, exactly(exactly(1)[0]))
            near.sendall(b"\1\0")
        kind = exactly(4)[3]
        if kind == 3:
            host = exactly(exactly(1)[0]).decode()
        else:
            family = {1: socket.AF_INET, 4: socket.AF_INET6}[kind]
            host = socket.inet_ntop(family, exactly({1: 4, 4: 16}[kind]))
        port = struct.unpack(">H", exactly(2))[0]
        self.asks.append((kind, host, port, user))
        return host, port


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
