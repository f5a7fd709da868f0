"""Three NATS servers that form a cluster, and networks in which they can be parted."""

import contextlib
import ctypes
import os
import subprocess

from .nats import NatsServer
from .process import PATIENCE, fixed_port, tool, wait_until

COUNT = 3
#: A leader is chosen within nine seconds, and who stands for it may have to try again.
ELECTION = 40


class NatsCluster(list):
    """Three `NatsServer`s that keep copies of each other's streams; all of them are on this machine, or
    each is in its `Network`."""

    def __init__(self, directory, networks=None, start=True):
        super().__init__()
        self.networks = networks
        ports = [fixed_port() for _ in range(COUNT)]
        hosts = [network.inner for network in networks] if networks else ["127.0.0.1"] * COUNT
        routes = ", ".join(f'"nats-route://{host}:{port}"' for host, port in zip(hosts, ports))
        for n in range(COUNT):
            keys = networks[n].server_keys() if networks else {}
            lines = (f'server_name: "n{n}"\ncluster {{ name: "c", host: "{hosts[n]}", port: {ports[n]}, '
                     f"no_advertise: true, routes: [{routes}] }}")
            self.append(NatsServer(directory / f"n{n}", lines, start=False, **keys))
        if start:
            self.start()

    @property
    def urls(self):
        return [server.url for server in self]

    def start(self):
        """Starts those that do not run, and waits until all take part."""
        for server in self:
            if not server.runs():
                server.launch()
        for server in self:
            # Its copies of streams may be older than those of the others yet.
            server.await_health("?js-server-only=true")

    def all(self, do):
        """Does the same with all of them: "kill", "pause"."""
        for server in self:
            getattr(server, do)()

    def others(self, *servers):
        return [server for server in self if server not in servers]

    def stream(self, gateway="default"):
        """The stream of a gateway, as the first server says it that knows a leader."""
        for server in self:
            if server.runs() and not server.is_stopped():
                with contextlib.suppress(OSError, EOFError):
                    # Without a leader nobody answers.
                    found = server.stream(gateway, 0.3)
                    if found and found["cluster"].get("leader"):
                        return found
        return None

    def leader(self, gateway="default"):
        """The server that leads a stream, once there is one."""
        found = wait_until(lambda: self.stream(gateway), f"a leader of the stream of {gateway}", ELECTION)
        return self[int(found["cluster"]["leader"][1:])]

    def says_leader(self, server, gateway="default"):
        """The server that leads a stream, as this one says it; None if it knows none."""
        with contextlib.suppress(OSError, EOFError):
            found = server.stream(gateway, 0.3)
            name = found and found["cluster"].get("leader")
            return self[int(name[1:])] if name else None

    def part(self, *servers):
        """Nothing passes any more between each of these and all others; clients reach them all."""
        for one in servers:
            for other in self.others(one):
                self.networks[self.index(one)].blackhole(self.networks[self.index(other)])

    def join(self):
        for network in self.networks:
            network.see_all()

    def await_copies(self, gateway="default"):
        """Waits until all copies of a stream are as new as the leader's."""
        def current():
            found = self.stream(gateway)
            copies = found and found["cluster"].get("replicas", ())
            return copies and len(copies) == COUNT - 1 and all(
                copy.get("current") and not copy.get("offline") for copy in copies)
        wait_until(current, lambda: f"copies of the stream: {self.stream(gateway)}")

    def of_client(self, name):
        """The server that the client with this name is connected to."""
        def look():
            for server in self:
                if server.runs() and not server.is_stopped():
                    found = server.state("connz") or {"connections": ()}
                    if any(one.get("name") == name for one in found["connections"]):
                        return server
            return None
        return wait_until(look, f"a server that {name} is connected to")


class Networks(list):
    """Three networks, one for each server, and one of this thread's own that leads to all of them. What
    this thread starts is in the latter. Only root can make them."""

    NEW = 0x40000000

    def __enter__(self):
        assert os.geteuid() == 0, "only root may make networks"
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert self.libc.unshare(self.NEW) == 0, os.strerror(ctypes.get_errno())
        try:
            ip("link set lo up")
            ip("link add middle type bridge")
            ip("link set middle up")
            for n in range(COUNT):
                self.append(Network(n))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for network in self:
            network.close()
        assert self.libc.setns(self.before, self.NEW) == 0, os.strerror(ctypes.get_errno())
        os.close(self.before)


class Network:
    """The network of one server: it is reached by the other servers at `inner`, by clients at `outer`."""

    def __init__(self, n):
        self.inner, self.outer = f"10.78.0.{n + 1}", f"10.79.{n}.1"
        self.holes = []
        self.keeper = subprocess.Popen([tool("unshare"), "--net", "sh", "-c", "echo; exec sleep infinity"],
                                       stdout=subprocess.PIPE)
        self.keeper.stdout.readline()
        pid = self.keeper.pid
        self.within = (tool("nsenter"), f"--net=/proc/{pid}/ns/net")
        self.ip("link set lo up")
        ip(f"link add i{n} type veth peer name inner netns {pid}")
        ip(f"link set i{n} master middle up")
        self.ip(f"addr add {self.inner}/24 dev inner")
        self.ip("link set inner up")
        ip(f"link add o{n} type veth peer name outer netns {pid}")
        ip(f"addr add 10.79.{n}.2/24 dev o{n}")
        ip(f"link set o{n} up")
        self.ip(f"addr add {self.outer}/24 dev outer")
        self.ip("link set outer up")

    def ip(self, words):
        subprocess.run([*self.within, tool("ip"), *words.split()], check=True)

    def server_keys(self):
        return {"wrap": self.within, "host": self.outer, "address": self.outer}

    def blackhole(self, other):
        """Sends nothing any more to another server."""
        self.ip(f"route add blackhole {other.inner}/32")
        self.holes.append(other.inner)

    def see_all(self):
        for hole in self.holes:
            self.ip(f"route del blackhole {hole}/32")
        self.holes.clear()

    def close(self):
        self.keeper.kill()
        self.keeper.wait()
        self.keeper.stdout.close()


def ip(words):
    subprocess.run([tool("ip"), *words.split()], check=True)
