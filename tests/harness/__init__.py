"""What all tests in Python share: it starts `wsgw serve`, talks to it, watches it, and ends it.

Nothing here waits for a fixed time: every wait is for an event and has a deadline. Modules that need
packages import them where they use them, so that the scripts of `tests/endurance` run without any.
"""

from .certificate import certificate
from .clients import Client, Raw, close_payload, encode_frame, read_length, ws_client
from .events import Events
from .frames import Framed, Say
from .nats import NOBODY, NatsClient, NatsServer, Nodes, Wire, ask_nodes, await_nodes
from .nats_cluster import NatsCluster, Networks
from .nats_jwt import credentials
from .process import (
    FAKE, HERE, PATIENCE, ROOT, WSGW, ServeProcess, alive, children, free_port, group_members,
    handed_over, private_env, rss_kib, run_cli, run_connect, tool, wait_until,
)
from .proxies import caddy, haproxy, nginx
from .record import Record
from .serve import Serve
from .servers import Peer, PeerServer, close_and_wait, echo, ws_server
from .streams import Event, Stream
from .talk import Talk, check_all_heard, check_held, check_never_silent, check_one_order
from .terminal import Terminal
from .timing import Stopwatch

__all__ = [
    "Client", "Event", "Events", "FAKE", "Framed", "HERE", "NOBODY", "NatsClient",
    "NatsCluster", "NatsServer", "Networks", "Nodes", "PATIENCE", "Peer", "PeerServer", "ROOT",
    "Raw", "Record", "Say", "Serve", "ServeProcess", "Stopwatch", "Stream", "Talk", "Terminal",
    "WSGW", "Wire", "alive", "ask_nodes", "await_nodes", "caddy", "certificate",
    "check_all_heard", "check_never_silent", "check_one_order", "children", "close_and_wait", "close_payload",
    "credentials", "echo", "encode_frame", "free_port", "group_members", "handed_over",
    "haproxy", "nginx", "private_env", "read_length", "rss_kib", "run_cli", "run_connect",
    "tool", "wait_until", "ws_client", "ws_server",
]
