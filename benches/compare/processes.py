"""The processes that are measured: each listens on 127.0.0.1 alone and ends with the row that started it."""

import json
import re
import resource
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from gzip import GzipFile
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

from tools import EXPORTER, SIMULATED_API


@contextmanager
def running(*command, **options):
    process = subprocess.Popen([str(part) for part in command], **{"stdin": subprocess.DEVNULL} | options)
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(pid):
    """User and system time of a process with all its threads, also those that have ended."""
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid, what="VmRSS"):
    """In bytes."""
    return 1024 * int(re.search(rf"{what}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def timed(*command, **options):
    """Seconds and CPU seconds of a whole process, and what it printed."""
    with tempfile.TemporaryFile() as output:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        # Without a timeout, for which Python would look every 50 ms whether the process has ended.
        ended = subprocess.run([str(part) for part in command], stdout=output, stderr=output, **options)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        output.seek(0)
        text = output.read().decode()
        if ended.returncode:
            raise RuntimeError(f"exit code {ended.returncode}: {text[-500:]}")
        return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, text


class Api:
    """The simulated API with zones of these sizes, such as 100x1000."""

    def __init__(self, process):
        self.process = process
        self.world = json.loads(process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def count(self):
        """Requests and connections so far."""
        return [int(number) for number in self.ask("count").split()]


@contextmanager
def api(*zones, latency_ms=0, certificate=None):
    """The simulated API. With a file for its certificate it speaks HTTP/2 over TLS."""
    tls = ("--certificate", certificate) if certificate else ()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with running(SIMULATED_API, "--latency-ms", latency_ms, *tls, *zones, **pipes) as process:
        yield Api(process)


def write_config(folder, world, settings=""):
    """What somebody with this account would write, but for the budget, which would slow everything down."""
    token = folder / "token"
    token.touch(0o600)
    token.write_text(world["token"])
    zones = "".join(f'[[zones]]\nid = "{zone["id"]}"\nname = "{zone["name"]}"\n' for zone in world["zones"])
    file = folder / "config.toml"
    file.write_text(
        f'api.base_url = "{world["base_url"]}"\napi.requests_per_5m = 1000000\n{settings}\n'
        f'credentials.default.api_token_file = "{token}"\n{zones}'
    )
    return file


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def listening(*command, path="/metrics", port=None, patience=240, **options):
    """A server; PORT in the command becomes its port. It is ready once that path is answered with 200."""
    port = port or free_port()
    with running(*(str(part).replace("PORT", str(port)) for part in command), **options) as process:
        process.port = port
        until = time.monotonic() + patience
        while True:
            try:
                if b" 200 " in scrape(port, path)[2]:
                    break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not answer")
            time.sleep(0.1)
        yield process


def daemon_command(config):
    return EXPORTER, "--config.file", config, "--log.level", "error", "--web.listen-address", "127.0.0.1:PORT"


@contextmanager
def daemon(world, settings=""):
    """Ours, once it has listed every zone."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), world, settings)
        with listening(*daemon_command(config), path="/-/ready") as process:
            yield process


BUFFER = memoryview(bytearray(2**20))


def scrape(port, path="/metrics", gzip=False):
    """Seconds from connecting to the last byte, how many bytes that were, and the head of the answer.

    The client of all that is timed. It takes what has arrived, as every scraper has to."""
    accept = "Accept-Encoding: gzip\r\n" if gzip else ""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{accept}\r\n"
    head = b""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(request.encode())
        while b"\r\n\r\n" not in head and (got := connection.recv_into(BUFFER)):
            head += BUFFER[:got]
        size, last = len(head), time.perf_counter()
        while got := connection.recv_into(BUFFER):
            size, last = size + got, time.perf_counter()
    return last - began, size, head.partition(b"\r\n\r\n")[0].lower()


def body(port, gzip=False):
    """The whole answer as it is sent, or nothing if it is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    with closing(connection):
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip" if gzip else "identity"})
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else b""


def certificates(answer, gzip=False):
    """How many of them have an expiry in an exposition, which may be too big to be unpacked at once."""
    text = GzipFile(fileobj=BytesIO(answer)) if gzip else BytesIO(answer)
    sought, tail, found = b"\ncloudflare_certificate_not_after_timestamp_seconds{", b"", 0
    while piece := text.read(2**20):
        found += (tail + piece).count(sought)
        tail = piece[-len(sought) + 1 :]
    return found
