"""Runs the Autobahn testsuite against the faces of wsgw; tests/clients/autobahn/run.sh sets it up."""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import socket
import ssl
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from harness import WSGW, ServeProcess, certificate, private_env  # noqa: E402

TARGET = HERE.parents[2] / "target/autobahn"
SECTIONS = [f"{n}.*" for n in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
LIMITS = ["--max-message", "16MiB", "--max-queue", "64MiB", "--max-line", "128MiB"]
# Cases that run at the same time; a debug build must still meet the time limits of section 9.
PARALLEL = 4
# The longest case is given 100 s by Autobahn.
CASE_LIMIT = 120

ENVIRONMENT = private_env(TARGET)


@contextlib.asynccontextmanager
async def tunnel(address, context):
    """Carries the bytes of each connection on to an address, by TLS; its own address."""
    host, port = address.split(":")

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            # With TLS there is no other way to say that nothing more comes.
            writer.write_eof() if writer.can_write_eof() else writer.close()

    async def carry(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def secure_serve():
    """The same by TLS, for a suite that does not speak it."""
    chain, key = certificate(TARGET)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with (
        serve("tls", "--tls-cert", chain, "--tls-key", key) as address,
        tunnel(address, context) as plain,
    ):
        yield plain


@contextlib.asynccontextmanager
async def serve(name, *args, listener=None):
    """A running `wsgw serve`; its address."""
    server = ServeProcess(
        TARGET / "serve" / name,
        "--control",
        "off",
        "-q",
        "--route",
        "sender",
        *LIMITS,
        *args,
        listener=listener,
        control=False,
    )
    try:
        yield f"127.0.0.1:{await asyncio.to_thread(server.port)}"
    finally:
        server.proc.terminate()
        await asyncio.to_thread(server.proc.wait, 60)


async def connect(*args):
    """`wsgw connect`; what it printed."""
    process = await asyncio.create_subprocess_exec(
        WSGW,
        "connect",
        *args,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    try:
        return (await asyncio.wait_for(process.communicate(), CASE_LIMIT))[0]
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return b""


async def all_cases(url, flags):
    """One echoing client for each case of a fuzzing server."""
    count = int(await connect("-n", "1", f"{url}/getCaseCount"))
    running = asyncio.Semaphore(PARALLEL)

    async def case(number):
        async with running:
            # A case may send 16 MiB thousands of times over; nobody wants to read it.
            await connect("--echo", *flags, f"{url}/runCase?case={number}&agent=connect")

    await asyncio.gather(*(case(number) for number in range(1, count + 1)))
    await connect("-w", "-1", f"{url}/updateReports?agent=connect")


class Kosoku:
    """Autobahn's cases, driven by Rust."""

    # It has an error of its own in the shortest cases of permessage-deflate and in those of 12.2 and
    # 12.5, and the longest take minutes: of each section that it can do, a few.
    COMPRESSED = [
        f"{section}.{size}"
        for section in ("12.1", "12.3", "12.4", *(f"13.{n}" for n in range(1, 8)))
        for size in (5, 7, 9)
    ]

    async def server(self, address, name, cases):
        import kosoku

        try:
            results = await kosoku.run_fuzzingclient(address, cases, None, concurrency=PARALLEL)
        except kosoku.FailureError as failure:
            results = failure.results
        return self.told(results, name)

    async def client(self, name, cases, *flags):
        import kosoku

        async with kosoku.run_fuzzingserver(cases, None, host="127.0.0.1", port=0) as server:
            await all_cases(f"ws://127.0.0.1:{server.port}", flags)
            try:
                results = await asyncio.wait_for(server.get_result(), 20)
            except kosoku.FailureError as failure:
                results = failure.results
        return self.told(results, name)

    @staticmethod
    def told(results, name):
        from kosoku._report import write_reports

        write_reports(results, str(TARGET / "reports" / name))
        return {one.case_id: (one.behavior.value, one.behavior_close.value) for one in results}


class Original:
    """Autobahn's own runner."""

    COMPRESSED = ["12.*", "13.*"]

    @contextlib.asynccontextmanager
    async def wstest(self, mode, name, spec):
        reports = TARGET / "reports" / name
        file = TARGET / f"{name}.json"
        file.write_text(
            json.dumps(
                {"outdir": str(reports), "exclude-cases": [], "exclude-agent-cases": {}, **spec}
            )
        )
        # As a site directory, for the .pth files of its namespace packages.
        start = (
            "import site, sys; site.addsitedir(sys.argv.pop(1)); import autobahntestsuite.wstest; "
            "sys.exit(autobahntestsuite.wstest.run())"
        )
        reports.mkdir(parents=True, exist_ok=True)
        (reports / "index.json").unlink(missing_ok=True)
        with open(TARGET / f"{name}.log", "wb") as log:
            process = await asyncio.create_subprocess_exec(
                os.environ["PYTHON27"],
                "-c",
                start,
                str(TARGET / "py27"),
                "-m",
                mode,
                "-s",
                str(file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
            )
            try:
                yield process, reports / "index.json"
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()

    @staticmethod
    def told(index, agent):
        return {
            case: (one["behavior"], one["behaviorClose"])
            for case, one in json.loads(index.read_text())[agent].items()
        }

    async def server(self, address, name, cases):
        spec = {"servers": [{"agent": name, "url": f"ws://{address}"}], "cases": cases}
        async with self.wstest("fuzzingclient", name, spec) as (process, index):
            await process.wait()
            return self.told(index, name)

    async def client(self, name, cases, *flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"ws://127.0.0.1:{port}"
        async with self.wstest("fuzzingserver", name, {"url": url, "cases": cases}) as (
            process,
            index,
        ):
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and process.returncode is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                await asyncio.sleep(0.1)
            await all_cases(url, flags)
            return self.told(index, "connect")


async def everything(runner, cases):
    async with (
        serve("alone") as alone,
        serve("cat", listener=["cat"]) as cat,
        secure_serve() as secure,
        serve("compress", "--compression", "shared") as compressing,
    ):
        runs = {
            "serve": runner.server(alone, "serve", cases or SECTIONS),
            "serve-cat": runner.server(cat, "serve-cat", cases or SECTIONS),
            "serve-tls": runner.server(secure, "serve-tls", cases or SECTIONS),
            "connect": runner.client("connect", cases or SECTIONS),
            "serve-compress": runner.server(compressing, "serve-compress", cases or runner.COMPRESSED),
            "connect-compress": runner.client(
                "connect-compress", cases or runner.COMPRESSED, "--compress"
            ),
        }
        return dict(zip(runs, await asyncio.gather(*runs.values())))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--original", action="store_true")
    parser.add_argument("-i", "--include", action="append")
    args = parser.parse_args()
    cases = args.include
    started = time.monotonic()
    told = asyncio.run(everything(Original() if args.original else Kosoku(), cases))

    expected = {}
    for line in (HERE / "expected.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            case, behaviour, close = line.split()
            expected[case] = (behaviour, close)
    passed = failed = 0
    for name, results in told.items():
        print(f"{name}: {len(results)} cases, reports in {TARGET / 'reports' / name}")
        of_compression = "compress" in name
        missing = [
            (case, "was not run")
            for case in expected
            if not cases and (case.split(".")[0] in ("12", "13")) == of_compression and case not in results
        ]
        # Better than expected is good.
        wrong = [
            (case, f"{got[0]}, close {got[1]}; expected {expected.get(case)}")
            for case, got in results.items()
            if got != expected.get(case) and got != ("OK", "OK")
        ]
        for case, why in missing + wrong:
            print(f"  {name} {case}: {why}")
        failed += len(missing) + len(wrong)
        passed += len(results) - len(wrong)
        if not results:
            failed += 1
    print(f"in {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
