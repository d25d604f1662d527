"""Listing: requests, time and CPU, against the latency and against Cloudflare's own SDKs."""

import math
import os
import sys
import tempfile
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
    yield Row("connections for it", f"at most {concurrency}", f"at most {most}", most <= concurrency)
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
    """The same over HTTP/2 and TLS, which is what Cloudflare speaks."""
    wall, connections = [], []
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "authority.pem"
        with api(size, latency_ms=round(latency * 1000), certificate=certificate) as simulated:
            settings = f'poll.concurrency = {concurrency}\napi.ca_file = "{certificate}"'
            command = lister(folder, simulated.world, settings)
            for _ in range(min(rounds, 5)):
                requests_before, connections_before = simulated.count()
                wall.append(timed(*command)[0])
                requests_after, connections_after = simulated.count()
                connections.append(connections_after - connections_before)
                assert requests_after - requests_before == size / 50, "some of it went another way"
    yield at_most("the same over HTTP/2 and TLS", 1.15, median(wall) / floor, target, f", {spread(wall)}")
    most = max(connections)
    yield Row("connections for it over HTTP/2", f"at most {concurrency}", f"at most {most}", most <= concurrency)


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
