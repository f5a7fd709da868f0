"""What a static file of 10 KiB costs, beside nginx in the same rounds; run by `benches/compare.sh --files`.

`wrk` asks for it again and again on connections that stay. nginx and wrk are those of the machine.
"""

import os
import pathlib
import re
import statistics
import subprocess
import tempfile

NGINX = """daemon off; master_process off; pid {home}/pid; error_log {home}/error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; include /etc/nginx/mime.types;
  client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3;
  uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  server {{ listen 127.0.0.1:{port}; root {home}/www; }}
}}
"""


def ask(c, server, connections):
    """CPU of one answer, in microseconds."""
    before = c.cpu(server.process.pid)
    url = f"http://127.0.0.1:{server.port}/file.html"
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", "-d2", url],
                          capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in done and "Socket errors" not in done, done
    return (c.cpu(server.process.pid) - before) / int(re.search(r"(\d+) requests in", done)[1])


def run(c, rounds):
    binary = os.environ.get("WSGW_BIN", str(c.ROOT / "target/release/wsgw"))
    with tempfile.TemporaryDirectory() as home:
        www = pathlib.Path(home, "www")
        www.mkdir()
        (www / "file.html").write_bytes(b"x" * 10_240)

        def nginx(port):
            config = pathlib.Path(home, "nginx.conf")
            config.write_text(NGINX.format(home=home, port=port))
            return ["nginx", "-c", str(config)]

        def wsgw(port):
            return [binary, "serve", "-q", "--control", "off", "--port", port, "--static", str(www)]

        print("| what | unit | wsgw | nginx | ratio |\n|---|---|---|---|---|")
        with c.Server(nginx) as theirs, c.Server(wsgw) as ours:
            for connections in (1, 32):
                pairs = [(ask(c, ours, connections), ask(c, theirs, connections)) for _ in range(rounds)]
                a, b = (statistics.median(side) for side in zip(*pairs))
                ratio = statistics.median(x / y for x, y in pairs)
                print(f"| a file of 10 KiB, again and again on {connections} connection"
                      f"{'s' if connections > 1 else ''} | µs | {a:.1f} | {b:.1f} | {ratio:.2f} |")
