"""Listing: requests, time and CPU, against the latency and against Cloudflare's own SDKs."""

import math
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from processes import api, timed, write_config
from report import Row, at_most, faster, spread
from tools import EXPORTER, PYTHON, SCRATCH, SCRIPTS


def lister(folder, world, settings=""):
    """Our `list`, a whole process like the others."""
    return EXPORTER, "list", "--output", "json", "--config.file", write_config(Path(folder), world, settings)


def requests(_rounds):
    sizes = {0: 1, 1: 1, 50: 1, 51: 2, 10_000: 200, 100_000: 2000}
    counted = []
    with api(*sizes) as simulated, tempfile.TemporaryDirectory() as folder:
        for zone in simulated.world["zones"]:
            before, _ = simulated.count()
            timed(*lister(folder, simulated.world | {"zones": [zone]}))
            counted.append(simulated.count()[0] - before)
    target = list(sizes.values())
    figure = "requests for 0, 1, 50, 51, 10,000 and 100,000 certificates"
    yield Row(figure, f"exactly {target}", str(counted), counted == target)


def sweep(rounds):
    size, latency, concurrency = 10_000, 0.05, 16
    floor = latency * (1 + math.ceil((size / 50 - 1) / concurrency))
    target = f"the floor of {floor * 1000:.0f} ms"
    wall, cpu, connections, missing = {}, {}, [], set()
    with api(size, latency_ms=50) as simulated, tempfile.TemporaryDirectory() as folder:
        world = simulated.world
        account = world["base_url"], world["token"], world["zones"][0]["id"]
        listers = {
            "ours": lister(folder, world, f"poll.concurrency = {concurrency}"),
            "Python SDK": (PYTHON, SCRIPTS / "list.py", *account),
            "TypeScript SDK": ("node", SCRIPTS / "list.cjs", *account),
        }
        environment = os.environ | {"NODE_PATH": str(SCRATCH / "node/node_modules")}
        for name, command in [lister for _ in range(min(rounds, 5)) for lister in listers.items()]:
            before = simulated.count()
            try:
                seconds, cpu_seconds, output = timed(*command, env=environment)
            except (OSError, RuntimeError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                missing.add(name)
                continue
            assert f"{size}" in output, f"{name} did not list {size} certificates: {output[-300:]}"
            wall.setdefault(name, []).append(seconds)
            cpu.setdefault(name, []).append(cpu_seconds)
            if name == "ours":
                connections.append(simulated.count()[1] - before[1])
    figure = f"sweep of {size:,} certificates, {latency * 1000:.0f} ms latency, concurrency {concurrency}"
    ours = median(wall["ours"])
    yield at_most(figure, 1.15, ours / floor, target, f", {spread(wall['ours'])}")
    most = max(connections)
    # reqwest connects while it waits for a connection to come free, so there can be more than requests at once.
    yield Row("connections for it over HTTP/1.1", "", f"at most {most}")
    yield from sweep_over_tls(rounds, size, latency, concurrency, target, floor)
    for name in ["Python SDK", "TypeScript SDK"]:
        if name in missing:
            yield Row(f"the same sweep with the {name}", "", "not measured: it does not run")
            continue
        yield faster("the same sweep", 10, median(wall[name]) / ours, f"the {name}", f", it took {spread(wall[name])}")
        ratio = median(cpu[name]) / median(cpu["ours"])
        detail = f", {spread(cpu[name])} against {spread(cpu['ours'])}"
        yield Row("CPU seconds of it", f"at most 1/10 of the {name}", f"1/{ratio:.1f}{detail}", ratio >= 10)


def sweep_over_tls(rounds, size, latency, concurrency, target, floor):
    """The same over HTTP/2 and TLS, which is what Cloudflare speaks.

    A process that speaks TLS reads the authorities of the machine and gathers entropy before its first request, and
    the daemon does so once. That is measured with a zone of one certificate, and taken off.
    """
    starts = {"plain": [], "TLS": []}
    wall, connections = [], []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def simulate(name, count, latency_ms=0, tls=True):
            directory = folder / name
            directory.mkdir()
            certificate = directory / "authority.pem" if tls else None
            simulated = stack.enter_context(api(count, latency_ms=latency_ms, certificate=certificate))
            ca_file = f'\napi.ca_file = "{certificate}"' if tls else ""
            return simulated, lister(directory, simulated.world, f"poll.concurrency = {concurrency}{ca_file}")

        _, start_plain = simulate("start-plain", 1, tls=False)
        _, start_tls = simulate("start-tls", 1)
        simulated, command = simulate("sweep", size, latency_ms=round(latency * 1000))
        for _ in range(min(rounds, 5)):
            starts["plain"].append(timed(*start_plain)[0])
            starts["TLS"].append(timed(*start_tls)[0])
            before = simulated.count()
            wall.append(timed(*command)[0])
            requests, connected = (now - then for now, then in zip(simulated.count(), before))
            assert requests == size / 50, "some of it went another way"
            connections.append(connected)
    start = max(0, median(starts["TLS"]) - median(starts["plain"]))
    detail = f", {spread(wall)} and {start * 1000:.0f} ms of that to start with TLS"
    yield at_most("the same over HTTP/2 and TLS", 1.15, (median(wall) - start) / floor, target, detail)
    most = max(connections)
    yield Row("connections for it over HTTP/2 and TLS", "1", f"at most {most}", most == 1)


def tenfold_sweep(rounds):
    """CPU seconds of a sweep with 10 times the certificates."""
    cpu = {"10000": [], "100000": []}
    with tempfile.TemporaryDirectory() as folder:
        for size, taken in cpu.items():
            with api(size) as simulated:
                command = lister(folder, simulated.world)
                taken.extend(timed(*command)[1] for _ in range(rounds))
    small, big = cpu.values()
    detail = f", {spread(small)} to {spread(big)}"
    figure = "10 × the certificates: CPU seconds of a sweep"
    yield at_most(figure, 11, median(big) / median(small), "those of 10,000", detail)
