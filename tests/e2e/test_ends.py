"""How connections end where sockets take little at a time: what either side said before is handled."""

import socket
import ssl

import pytest

from harness import PATIENCE, Raw, certificate, encode_frame, handed_over

REQUEST = (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


class Secure:
    """A TLS client whose records are in its own hands."""

    def __init__(self, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.sock.connect(("127.0.0.1", port))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.pump(self.tls.do_handshake)
        self.send(REQUEST)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.pump(lambda: self.tls.read(1))
        assert b" 101 " in head

    def pump(self, step):
        """Does it, with as many records from the socket as it takes."""
        while True:
            try:
                done = step()
                self.flush()
                return done
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(4000)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def flush(self):
        # Not even nothing can be sent on a socket that is half closed.
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())

    def records(self, data):
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data):
        self.sock.sendall(self.records(data))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.pump(lambda: self.tls.read(count - len(data)))
            assert more, "closed too early"
            data += more
        return data

    def frame(self):
        first, length = self.exactly(2)
        if length == 126:
            length = int.from_bytes(self.exactly(2), "big")
        return first, self.exactly(length)


@pytest.fixture
def narrow(serve):
    """A gateway whose sockets take little at a time, as over a real network."""
    acceptor = socket.socket()
    # Accepted sockets have it from this one.
    acceptor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    acceptor.bind(("127.0.0.1", 0))
    acceptor.listen(16)
    port = acceptor.getsockname()[1]

    def start(*flags):
        serve("--port", port, *flags, port=False, **handed_over(acceptor))
        return port

    with acceptor:
        yield start


@pytest.fixture
def secure(narrow, tmp_path):
    """The same with TLS."""
    chain, key = certificate(tmp_path)
    return lambda *flags: narrow("--tls-cert", chain, "--tls-key", key, *flags)


@pytest.mark.parametrize("messages", [4, 12, 15, 40])
def test_what_the_record_layer_holds_survives_the_clients_end(secure, messages):
    """The client says Close and half-closes its socket, and takes what it is owed after that."""
    client = Secure(secure("--route", "sender"))
    for n in range(messages):
        client.send(encode_frame(2, bytes([n]) * 20_000))
    client.send(encode_frame(8, b"\x03\xe8"))
    client.sock.shutdown(socket.SHUT_WR)
    for n in range(messages):
        assert client.frame() == (0x82, bytes([n]) * 20_000)
    assert client.frame() == (0x88, b"\x03\xe8")
    # Closed in order, not cut.
    assert client.pump(lambda: client.tls.read(1)) == b""
    client.sock.close()


def test_a_message_in_front_of_a_broken_record_is_delivered(secure):
    port = secure("--route", "all")
    watcher, client = Secure(port), Secure(port)
    broken = b"\x17\x03\x03\x00\x20" + b"x" * 32
    client.sock.sendall(client.records(encode_frame(1, b"hello")) + broken)
    assert watcher.frame() == (0x81, b"hello")
    watcher.sock.close()
    client.sock.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_last_words_of_a_client_that_resets_are_heard(narrow, secure, tls):
    """It closes its socket while it has not read what waits for it: a RST, and nothing can be
    written to it any more; what it said before lies in the kernel all the same."""
    port = (secure if tls else narrow)("--route", "others", "--max-queue", "16MiB")
    watcher = Secure(port) if tls else Raw(port).upgrade()
    heard = watcher.frame if tls else watcher.read_frame
    said = watcher.send if tls else watcher.write
    for n in range(20):
        client = Secure(port) if tls else Raw(port).upgrade()
        said(encode_frame(2, bytes(500_000)) * 4)
        # The first bytes are there: the rest waits.
        assert client.sock.recv(1)
        words = encode_frame(1, b"last %d" % n)
        client.sock.sendall(client.records(words) if tls else words)
        client.sock.close()
        assert heard()[-1] == b"last %d" % n
    watcher.sock.close()
