"""Real proxies in front of a gateway: nginx, Caddy and HAProxy, each with a config of a test's own."""

import contextlib
import socket
import subprocess

from .process import private_env, tool, wait_until


@contextlib.contextmanager
def running(command, port, log, env=None):
    """A proxy that runs by this command; it is up once it takes connections at its port."""
    with open(log, "a") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as proxy:
        def is_up():
            assert proxy.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True

        try:
            wait_until(is_up, lambda: f"{command}: {log.read_text()}")
            yield
        finally:
            proxy.terminate()


def nginx(directory, site, port):
    """nginx with this text in its `http` block; `site` listens on `port`."""
    program = tool("nginx")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    log = directory / "nginx.log"
    config = directory / "nginx.conf"
    # The workers of root would be another user, who may not use a socket of root's.
    config.write_text(f"pid {directory}/nginx.pid;\ndaemon off;\nuser root;\nerror_log {log};\n"
                      f"events {{}}\nhttp {{\naccess_log off;\n{paths}{site}\n}}\n")
    return running([program, "-p", directory, "-c", config], port, log)


def caddy(directory, sites, port):
    """Caddy with these sites, of which one listens on `port`."""
    config = directory / "Caddyfile"
    config.write_text("{\n\tadmin off\n}\n" + sites)
    env = {**private_env(directory), "XDG_DATA_HOME": str(directory / "data")}
    command = [tool("caddy"), "run", "--config", config, "--adapter", "caddyfile"]
    return running(command, port, directory / "caddy.log", env)


def haproxy(directory, port, address, words="", mode="tcp", timeout="60s"):
    """HAProxy in front of an address, with these words behind its server line."""
    # Else it does not tell of a client that leaves until there is something to send to it.
    abort = "  option abortonclose\n" if mode == "http" else ""
    config = directory / f"haproxy-{port}.cfg"
    config.write_text(
        f"global\n  log stderr local0\ndefaults\n  mode {mode}\n  timeout connect 5s\n"
        f"  timeout client {timeout}\n  timeout server {timeout}\n  timeout tunnel {timeout}\n{abort}"
        f"frontend f\n  bind 127.0.0.1:{port}\n  bind [::1]:{port}\n  default_backend b\n"
        f"backend b\n  server s {address} {words}\n")
    log = directory / "haproxy.log"
    return running([tool("haproxy"), "-db", "-f", config], port, log)
