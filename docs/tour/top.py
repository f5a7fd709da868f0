#!/usr/bin/env python3
"""Makes top.svg: `wsgw top` as it is, on a terminal of 110 × 34, over gateways that are busy.

    python3 -m venv target/tour && target/tour/bin/pip install -r tests/requirements.txt
    cargo build && target/tour/bin/python docs/tour/top.py
"""

import html
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from harness import WSGW, Serve  # noqa: E402
from harness.screen import Screen  # noqa: E402

COLUMNS, LINES = 110, 34
#: Seconds of traffic before the picture is taken; the sparklines show them.
SECONDS = 75

LISTENER = """
import sys, time
print("ready: 3 rooms", file=sys.stderr, flush=True)
for line in sys.stdin:
    time.sleep(0.002)
    print(line, end="", flush=True)
"""
CONFIG = """
[gateways.chat]
port = 0
listener = ["python3", "chat.py"]
allow-origin = ["https://chat.example"]

[gateways.prices]
port = 0

[gateways.rooms]
port = 0
listener = ["cat"]

[gateways.old]
port = 0
listener = ["/opt/old/listener"]
"""


def traffic(server, gateway, clients, wave, over):
    """Each client sends at a rate that goes up and down."""
    links = [server.connect(gateway=gateway) for _ in range(clients)]

    def drain(link):
        try:
            while True:
                link.recv(timeout=5)
        except Exception:  # noqa: BLE001: the end of the program is the end of this
            return

    for link in links:
        threading.Thread(target=drain, args=(link,), daemon=True).start()
    n = 0
    while not over.is_set():
        n += 1
        try:
            links[n % clients].send(f"message {n}")
        except Exception:  # noqa: BLE001
            return
        time.sleep(1 / wave(time.monotonic()))


def svg(screen):
    """The screen's characters, each run of one style as one text."""
    width, height, pad = 7.8, 17, 12
    # What pyte makes of the colours of a terminal: red, green, yellow, blue, cyan.
    colors = {"default": "#d7dae0", "cd0000": "#ff7b72", "00cd00": "#7ee787", "cdcd00": "#f2cc60",
              "0000ee": "#79c0ff", "00cdcd": "#76e3ea"}
    back = "#0d1117"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * width + 2 * pad:.0f} '
           f'{LINES * height + 2 * pad}" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, '
           f'\'DejaVu Sans Mono\', monospace" font-size="13">',
           "<title>wsgw top</title>",
           f'<rect width="100%" height="100%" rx="8" fill="{back}"/>']
    for y in range(LINES):
        cells = [screen.buffer[y][x] for x in range(COLUMNS)]
        x = 0
        while x < COLUMNS:
            style = (cells[x].fg, cells[x].bold, cells[x].reverse, cells[x].underscore)
            end = x
            while end < COLUMNS and (cells[end].fg, cells[end].bold, cells[end].reverse,
                                     cells[end].underscore) == style:
                end += 1
            text = "".join(cell.data for cell in cells[x:end])
            fg, bold, reverse, underlined = style
            left, top = pad + x * width, pad + y * height
            color = colors.get(fg, colors["default"])
            if reverse:
                out.append(f'<rect x="{left:.1f}" y="{top}" width="{(end - x) * width:.1f}" '
                           f'height="{height}" fill="{color}"/>')
                color = back
            if underlined:
                out.append(f'<path d="M{left:.1f} {top + height - 1.5}h{(end - x) * width:.1f}" '
                           f'stroke="{color}"/>')
            if text.strip():
                # Each character at its own place: no font may move them.
                places = " ".join(f"{left + i * width:.1f}" for i, c in enumerate(text))
                weight = ' font-weight="bold"' if bold else ""
                out.append(f'<text x="{places}" y="{top + height - 4}" fill="{color}"{weight} '
                           f'xml:space="preserve">{html.escape(text.rstrip())}</text>')
            x = end
    return "\n".join([*out, "</svg>"]) + "\n"


def main():
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "chat.py").write_text(LISTENER)
        server = Serve(Path(directory), config=CONFIG, wait=False)
        over = threading.Event()
        try:
            server.await_control()
            for gateway in ("chat", "prices", "rooms"):
                server.port(gateway)
            for _ in range(3):
                link = server.raw(gateway="chat")
                link.request(headers={"Origin": "https://elsewhere.example"}).response()
            start = time.monotonic()
            waves = {"chat": (12, lambda now: 30 + 25 * ((now - start) % 20) / 20),
                     "prices": (40, lambda now: 20 + 60 * (int(now - start) % 9 == 0)),
                     "rooms": (5, lambda now: 5 + 4 * (int((now - start) / 6) % 2))}
            for gateway, (clients, wave) in waves.items():
                threading.Thread(target=traffic, args=(server, gateway, clients, wave, over),
                                 daemon=True).start()
            env = {name: server.env[name] for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
            top = Screen(directory, command=(WSGW, "top"), columns=COLUMNS, lines=LINES, NO_COLOR="",
                         **env)
            try:
                top.see("old").type("c")
                deadline = time.monotonic() + SECONDS
                while time.monotonic() < deadline:
                    top.read()
                top.type("\x1b[B")
                top.see(" chat ─")
                (HERE / "top.svg").write_text(svg(top.screen))
            finally:
                top.kill()
        finally:
            over.set()
            server.stop()
            server.kill()


if __name__ == "__main__":
    main()
