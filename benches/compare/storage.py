"""What a sample costs in Prometheus' own storage, over a simulated day."""

import random
import subprocess
import tempfile
from pathlib import Path

from report import Row
from tools import need

CERTIFICATES, INTERVAL, DAY = 100, 15, 86_400
# A midnight, so that the blocks of two hours are whole.
BEGIN = 20_000 * DAY
NAME = "cloudflare_certificate"


def bytes_per_sample(value):
    """Of the chunks alone, from blocks that promtool makes of one family."""
    rng = random.Random(4)
    expiries = [BEGIN + rng.randrange(DAY, 3650 * DAY) for _ in range(CERTIFICATES)]
    with tempfile.TemporaryDirectory() as folder:
        file, blocks = Path(folder) / "day.om", Path(folder) / "blocks"
        with file.open("w") as text:
            text.write(f"# TYPE {NAME} gauge\n")
            for number, not_after in enumerate(expiries):
                for now in range(BEGIN, BEGIN + DAY, INTERVAL):
                    text.write(f'{NAME}{{certificate_id="{number}"}} {value(not_after, now)} {now}\n')
            text.write("# EOF\n")
        command = need("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet", file, blocks
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        size = sum(chunk.stat().st_size for chunk in blocks.glob("*/chunks/*"))
    return size / (CERTIFICATES * DAY / INTERVAL)


def storage(_rounds):
    days = bytes_per_sample(lambda not_after, now: (not_after - now) // DAY)
    timestamp = bytes_per_sample(lambda not_after, _now: not_after)
    fraction = bytes_per_sample(lambda not_after, now: (not_after - now) / DAY)
    figure = f"bytes a sample in Prometheus, a day of {CERTIFICATES} certificates every {INTERVAL} s"
    measured = f"{days:.3f} for days, {timestamp:.3f} for the timestamp; {fraction:.3f} for fractions of days"
    yield Row(figure, "days no dearer than the timestamp", measured, days <= timestamp)
