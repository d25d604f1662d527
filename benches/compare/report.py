"""Figures as they are printed and written to RESULTS.md."""

from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import median

from tools import PROJECT, versions

RESULTS = PROJECT / "benches/RESULTS.md"
# Whatever follows was written by hand, and stays.
BY_HAND = "## What stands in the way\n"


@dataclass
class Row:
    """`met` is None where there is no target, or nothing to hold against it."""

    figure: str
    target: str
    measured: str
    met: bool | None = None

    def __str__(self):
        met = {True: "yes", False: "**no**", None: ""}[self.met]
        return f"| {self.figure} | {self.target} | {self.measured} | {met} |"


def at_most(figure, limit, ratio, of, detail=""):
    """A row whose target is a ratio."""
    return Row(figure, f"at most {limit} × {of}", f"{ratio:.3g} ×{detail}", ratio <= limit)


def faster(figure, least, ratio, than, detail=""):
    """A row whose target is to be so many times faster, if there is a target."""
    target = f"at least {least} × faster than {than}" if least else f"none, against {than}"
    return Row(figure, target, f"{ratio:.1f} ×{detail}", ratio >= least if least else None)


def spread(values, unit="s"):
    """The median, and between which values it lies."""
    if unit == "s" and median(values) < 1:
        values, unit = [value * 1000 for value in values], "ms"
    return f"{median(values):.4g} {unit} ({min(values):.4g} to {max(values):.4g})"


def write(command, at_start, rows):
    """Replaces all of RESULTS.md but what was written by hand."""
    old = RESULTS.read_text() if RESULTS.exists() else ""
    by_hand = BY_HAND + old.partition(BY_HAND)[2]
    lines = [
        "# Results\n",
        f"Written by `{command}` on {datetime.now(timezone.utc):%Y-%m-%d}, all in one run.",
        "Times and CPU seconds are medians, with the least and the most in brackets.",
        f"Machine: {at_start}.\n",
        "| figure | target | measured | met |\n| --- | --- | --- | --- |",
        *map(str, rows),
        "\n## Versions\n\n| what | version |\n| --- | --- |",
        *(f"| {name} | {version} |" for name, version in versions()),
        f"\n{by_hand}",
    ]
    RESULTS.write_text("\n".join(lines))
    print(f"Written to {RESULTS.relative_to(PROJECT)}.")
