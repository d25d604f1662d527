"""What shows only inside the process: medians that `cargo bench` prints."""

import re
import subprocess

from report import at_most
from tools import PROJECT

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1}


def medians(bench, *names):
    """Seconds by path in divan's tree, of the benchmarks of these names."""
    command = "cargo", "bench", "--quiet", "--bench", bench, "--", *names
    output = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    path, found = [], {}
    # Each level is three columns wide; fastest, slowest and median stand behind the name.
    for indent, name, times in re.findall(r"^([│ ]*)[├╰]─ (.+?)(  .*)?$", output, re.MULTILINE):
        path[len(indent) // 3 :] = [name]
        if len(columns := re.findall(r"([\d.]+) (ns|µs|ms|s)\b", times)) >= 3:
            value, unit = columns[2]
            found["/".join(path)] = float(value) * UNITS[unit]
    return found


def micro(_rounds):
    decode = medians("micro", "unpack_and_read", "unpack_and_skip")
    render = medians("rendering", "everything", "one_zone_of_1_000_was_polled")

    def row(figure, limit, taken, floor, of):
        detail = f", {taken * 1e6:,.0f} µs against {floor * 1e6:,.0f} µs"
        return at_most(figure, limit, taken / floor, of, detail)

    for pem, what in {"Real": "as hard to compress as real ones", "Simulated": "as simulated"}.items():
        taken, floor = (decode[f"decode/unpack_and_{step}/{pem}"] for step in ("read", "skip"))
        yield row(f"CPU time to decode a page of 50 certificates {what}", 1.7, taken, floor, "gunzip and IgnoredAny")
    figure = "one zone of 100 certificates changes among 1,000 zones"
    taken, floor = render["one_zone_of_1_000_was_polled"], render["everything/(1000, 100)"]
    yield row(figure, 0.02, taken, floor, "a full rendering")
    taken, floor = (render[f"everything/(1, {size})"] for size in (100_000, 10_000))
    yield row("10 × the certificates: rendering and compressing", 11, taken, floor, "that of 10,000")
