"""Answering scrapes: time against nginx and other exporters, and memory, CPU and start of the daemon."""

import os
import re
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from itertools import count
from pathlib import Path
from statistics import median

from processes import (
    api, body, certificates, cpu_seconds, daemon, daemon_command, free_port, listening, memory, running, scrape,
    write_config,
)
from report import Row, at_most, faster, spread
from tools import PYTHON, SCRATCH, SCRIPTS, Unavailable, need

UNCAPPED = "metrics.max_certificates_per_zone = 1000000"
PLAIN, GZIP = False, True
FORMS = {PLAIN: "plain", GZIP: "gzip"}
# Plain text is rendered as it is sent, and hardly any scraper asks for it.
MOST_OF_NGINX = {PLAIN: 2, GZIP: 1.2}
# A day begins for one of 100,000 certificates about once a second, so that few scrapes find the bytes of the last.
PAUSE = 1

NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr crit;
worker_processes auto;
{user}
events {{}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    default_type text/plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        gzip_static on;
    }}
}}
"""


@contextmanager
def nginx(folder):
    """It serves the files of a folder."""
    port, config = free_port(), Path(folder) / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    with listening(need("nginx"), "-c", config, "-p", folder, port=port):
        yield port


@contextmanager
def sender(answer):
    """The least that a server can do: what it takes is what the client takes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(2**16)
                        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def take_turns(servers, form, rounds):
    """Seconds of every scrape by server. They take turns, so that noise hits all alike."""
    taken, sizes = {name: [] for name in servers}, {}
    for _ in range(rounds):
        for name, port in servers.items():
            time.sleep(PAUSE)
            seconds, size, head = scrape(port, gzip=form)
            assert b" 200 " in head and (name == "client" or (b"gzip" in head) == form), f"{name} answers {head}"
            assert size > 0.99 * sizes.setdefault(name, size), f"{name} sends {size} bytes, not {sizes[name]}"
            taken[name].append(seconds)
    return taken


def keep_answers(port, folder, expected=100_000):
    """Writes our own answers where nginx finds them, and returns them."""
    answers = {}
    for form, file in {PLAIN: "metrics", GZIP: "metrics.gz"}.items():
        answers[form] = body(port, form)
        found = certificates(answers[form], form)
        assert found == expected, f"{found} certificates are shown"
        (Path(folder) / file).write_bytes(answers[form])
    return answers


def against_nginx(rounds):
    """100,000 certificates in 100 zones, then in a single one, where a change of one touches all."""
    for shape, what in {"100x1000": "100,000 certificates in 100 zones", "100000": "the same in one zone"}.items():
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            simulated = stack.enter_context(api(shape))
            ours = stack.enter_context(daemon(simulated.world, UNCAPPED)).port
            answers = keep_answers(ours, folder)
            files = stack.enter_context(nginx(folder))
            for form, name in FORMS.items():
                client = stack.enter_context(sender(answers[form]))
                taken = take_turns({"ours": ours, "nginx": files, "client": client}, form, rounds)
                detail = f", {spread(taken['ours'])} against {spread(taken['nginx'])}"
                detail += f" for {len(answers[form]) / 1e6:.1f} MB; the client alone {spread(taken['client'])}"
                ratio = median(taken["ours"]) / median(taken["nginx"])
                yield at_most(f"scrape of {what}, {name}", MOST_OF_NGINX[form], ratio, "nginx", detail)


def against_exporters(rounds):
    """The same gauges from exporters on the usual libraries; they are slow, so five rounds do."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        simulated = stack.enter_context(api("100x1000"))
        servers = {"ours": stack.enter_context(daemon(simulated.world)).port}
        text = keep_answers(servers["ours"], folder)[PLAIN]
        file = Path(folder) / "certificates.prom"
        file.write_bytes(b"".join(re.findall(rb"^(?:# \w+ )?cloudflare_certificate_.*\n", text, re.MULTILINE)))
        options = "--log.level=error", "--collector.disable-defaults", "--collector.textfile"
        textfile = "--web.listen-address=127.0.0.1:PORT", *options, f"--collector.textfile.directory={folder}"
        exporters = {
            "client_golang": (10, SCRATCH / "go-exporter", file, "PORT"),
            "prometheus_client": (50, PYTHON, SCRIPTS / "exporter.py", file, "PORT"),
            "node_exporter": (None, "prometheus-node-exporter", *textfile),
        }
        for name, (least, program, *arguments) in exporters.items():
            try:
                port = stack.enter_context(listening(need(program), *arguments)).port
                shown = certificates(body(port))
                assert shown == 100_000, f"{name} shows {shown} certificates"
                servers[name] = port
            except (Unavailable, RuntimeError) as error:
                yield Row(f"scrape against {name}", "", f"not measured: {error}")
        for form, form_name in FORMS.items():
            taken = take_turns(servers, form, min(rounds, 5))
            for name in list(servers)[1:]:
                ratio, least = median(taken[name]) / median(taken["ours"]), exporters[name][0]
                figure, detail = f"the same in 100 zones, {form_name}", f", {spread(taken[name])}"
                yield faster(figure, least, ratio, name, f"{detail} against {spread(taken['ours'])}")


def resident(rounds):
    """Memory at rest, in daemons that run side by side: nothing, 10,000 and twice 100,000 certificates."""
    pages = {"0": 1, "10x1000": 200, "100x1000": 2000, "100000": 2000}
    # Long enough for rest between two polls.
    seconds = 45
    with ExitStack() as stack:
        apis = {shape: stack.enter_context(api(shape)) for shape in pages}
        settings = f'{UNCAPPED}\npoll.interval = "{seconds}s"'
        daemons = {shape: stack.enter_context(daemon(api.world, settings)) for shape, api in apis.items()}

        def change(second):
            """A poll that finds nothing new would keep what it has."""
            for simulated in list(apis.values())[1:]:
                simulated.ask(f"change {second % len(simulated.world['zones'])}")
            time.sleep(1)

        for second in count():
            if all(apis[shape].count()[0] >= 3 * pages[shape] for shape in pages):
                break
            change(second)
        samples = {shape: [] for shape in pages}
        for second in range(seconds + 15):
            for shape, process in daemons.items():
                if second in (0, 5, 10):
                    scrape(process.port, gzip=True)
                if second >= 15:
                    samples[shape].append(memory(process.pid))
            change(second)
        most = {shape: memory(process.pid, "VmHWM") for shape, process in daemons.items()}
    rest = {shape: median(values) for shape, values in samples.items()}
    for shape, where in {"100x1000": "100 zones", "100000": "one zone"}.items():
        each = rest[shape] / 100_000
        detail = f"{each:.0f} bytes; {rest[shape] / 2**20:.0f} MiB, at most {most[shape] / 2**20:.0f} MiB ever"
        figure = f"memory a certificate, 100,000 in {where}, after three polls with changes and three gzip scrapes"
        yield Row(figure, "at most 1,000 bytes", detail, each <= 1000)
    small, big = (rest[shape] - rest["0"] for shape in ("10x1000", "100x1000"))
    detail = f", {small / 2**20:.1f} to {big / 2**20:.1f} MiB over the {rest['0'] / 2**20:.1f} MiB of none"
    yield at_most("10 × the certificates: memory", 11, big / small, "that of 10,000", detail)


def million(rounds):
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        simulated = stack.enter_context(api("500x2000"))
        began = time.monotonic()
        process = stack.enter_context(daemon(simulated.world, "poll.concurrency = 16"))
        listed = time.monotonic() - began
        answer = body(process.port, GZIP)
        assert (found := certificates(answer, GZIP)) == 1_000_000, f"{found} certificates are shown"
        (Path(folder) / "metrics.gz").write_bytes(answer)
        (Path(folder) / "metrics").touch()
        files = stack.enter_context(nginx(folder))
        ours, theirs = take_turns({"ours": process.port, "nginx": files}, GZIP, min(rounds, 5)).values()
        time.sleep(15)
        rest, most = (memory(process.pid, what) / 2**20 for what in ("VmRSS", "VmHWM"))
        figure = "1,000,000 certificates in 500 zones"
        detail = f"{rest:.0f} MiB at rest, {most:.0f} MiB at most; first listed after {listed:.0f} s"
        yield Row(f"{figure}: memory", "within 1,024 MiB", detail, most <= 1024)
        detail = f", {spread(ours)} against {spread(theirs)} for {len(answer) / 1e6:.0f} MB"
        yield at_most(f"{figure}: scrape, gzip", 1.2, median(ours) / median(theirs), "nginx", detail)


def empty_zones(rounds):
    """10,000 zones without a certificate that are discovered: memory over that of one, and scrapes."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        worlds = [stack.enter_context(api(shape)).world | {"zones": []} for shape in ("10000x0", "1x0")]
        ours, one = (stack.enter_context(daemon(world, "poll.concurrency = 16")) for world in worlds)
        answers = keep_answers(ours.port, folder, 0)
        body(one.port, GZIP)
        files = stack.enter_context(nginx(folder))
        for form, name in FORMS.items():
            taken = take_turns({"ours": ours.port, "nginx": files}, form, rounds)
            detail = f", {spread(taken['ours'])} against {spread(taken['nginx'])} for {len(answers[form]) / 1e6:.1f} MB"
            ratio = median(taken["ours"]) / median(taken["nginx"])
            yield at_most(f"scrape of 10,000 empty zones, {name}", MOST_OF_NGINX[form], ratio, "nginx", detail)
        each = (memory(ours.pid) - memory(one.pid)) / 10_000
        yield Row("memory of an empty zone, of 10,000", "at most 4,000 bytes", f"{each:.0f} bytes", each <= 4000)


def idle(rounds):
    """With the default intervals; the first listing is over."""
    every, scrapes = 15, 8 if rounds >= 5 else 2
    with api("10x100") as simulated, daemon(simulated.world) as process:
        time.sleep(every)
        cpu, began = cpu_seconds(process.pid), time.monotonic()
        for number in range(scrapes):
            scrape(process.port, gzip=True)
            time.sleep(max(0, began + (number + 1) * every - time.monotonic()))
        percent = 100 * (cpu_seconds(process.pid) - cpu) / (time.monotonic() - began)
    figure = f"CPU when idle, 1,000 certificates, scraped every {every} s for {scrapes * every} s"
    yield Row(figure, "at most 0.1 % of a core", f"{percent:.3f} %", percent <= 0.1)


def start(rounds):
    """From exec to the last byte of the first answer that has every certificate, asked for without a pause."""
    for shape, zones in {"10000": "one zone", "200x50": "200 zones"}.items():
        with api(shape) as simulated, tempfile.TemporaryDirectory() as folder:
            settings = f'{UNCAPPED}\nstate.directory = "{folder}/state"'
            config = write_config(Path(folder), simulated.world, settings)
            with listening(*daemon_command(config), path="/-/ready"):
                pass
            for form, name in FORMS.items():
                taken = [first_answer(config, form) for _ in range(rounds)]
                figure = f"start with state to the first correct /metrics, 10,000 certificates in {zones}, {name}"
                yield Row(figure, "within 100 ms", spread(taken), median(taken) <= 0.1)


def first_answer(config, form):
    port = free_port()
    command = [str(part).replace("PORT", str(port)) for part in daemon_command(config)]
    began = time.perf_counter()
    with running(*command):
        while time.perf_counter() < began + 30:
            try:
                answer = body(port, form)
            except (OSError, HTTPException):
                continue
            taken = time.perf_counter() - began
            if answer and certificates(answer, form) == 10_000:
                return taken
    raise TimeoutError("there was no correct answer within 30 s")
