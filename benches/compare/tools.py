"""What the exporter is compared with: installing it, and saying which version it is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "benches/compare"
# What is installed by pip and npm, and built; kept from run to run.
SCRATCH = PROJECT / "target/compare"
EXPORTER = PROJECT / "target/release/cloudflare-cert-exporter"
SIMULATED_API = PROJECT / "target/release/examples/simulated_api"
PYTHON = SCRATCH / "venv/bin/python"
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(SCRATCH / "go-cache")}

CLIENT_GOLANG = "/usr/share/gocode/src/github.com/prometheus/client_golang"

DEBIAN = {
    "nginx": "nginx",
    "go": "golang",
    CLIENT_GOLANG: "golang-github-prometheus-client-golang-dev",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "promtool": "prometheus",
    "npm": "npm",
}
# Services that listen on every interface would be started; an answer of 101 keeps packages from it.
APT = r"""set -e
if ! [ -e /usr/sbin/policy-rc.d ]; then
    trap 'rm /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "$@" >/dev/null"""


class Unavailable(Exception):
    """What a row is measured against is not there."""


def which(program):
    # Debian has nginx where only root looks.
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


def need(program):
    if path := which(program):
        return path
    raise Unavailable(f"{Path(program).name} could not be installed")


def attempt(what, *command, **environment):
    print(f"{what}.", flush=True)
    try:
        subprocess.run(command, env=os.environ | environment, stdin=subprocess.DEVNULL, check=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"That failed, so what needs it is left out: {error}", file=sys.stderr)


def install():
    """Installs what is missing. What cannot be installed is left out by the rows that need it."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    packages = [package for name, package in DEBIAN.items() if not (which(name) or Path(name).exists())]
    if packages:
        root = [] if os.geteuid() == 0 else ["sudo"]
        attempt(f"To install with apt-get: {' '.join(packages)}", *root, "sh", "-c", APT, "sh", *packages)
    if not list(SCRATCH.glob("venv/lib/*/site-packages/prometheus_client")):
        attempt("To make an environment for Python packages", sys.executable, "-m", "venv", SCRATCH / "venv")
        names = "cloudflare", "prometheus_client"
        attempt(f"To install with pip: {' '.join(names)}", PYTHON, "-m", "pip", "install", "--quiet", *names)
    if not (SCRATCH / "node/node_modules/cloudflare").exists():
        folder = SCRATCH / "node"
        folder.mkdir(exist_ok=True)
        attempt("To install with npm: cloudflare", "npm", "install", "--silent", "--prefix", folder, "cloudflare")
    build = "go", "build", "-o", SCRATCH / "go-exporter", SCRIPTS / "exporter.go"
    attempt("To build: the exporter on client_golang", *build, **GO)


def versions():
    """One line for each thing that is compared, by its own account."""
    asked = {
        "cloudflare-cert-exporter": [EXPORTER, "--version"],
        "Rust": ["rustc", "--version"],
        "nginx": [which("nginx"), "-v"],
        "Go": [which("go"), "version"],
        "client_golang": ["dpkg-query", "--show", "golang-github-prometheus-client-golang-dev"],
        "node_exporter": [which("prometheus-node-exporter"), "--version"],
        "Prometheus": [which("promtool"), "--version"],
        "Python": [PYTHON, "--version"],
        "Python packages": [PYTHON, "-m", "pip", "list", "--format=freeze"],
        "Node.js": ["node", "--version"],
        "npm package": ["npm", "list", "--prefix", SCRATCH / "node", "--parseable", "--long"],
    }
    wanted = {"Python packages": r"(?:cloudflare|prometheus.client)==\S+", "npm package": r"cloudflare@[\d.]+"}
    for name, command in asked.items():
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            text = (answer.stdout + answer.stderr).strip()
            yield name, ", ".join(sorted(set(re.findall(wanted.get(name, r"^.*"), text))))
        except (OSError, TypeError, subprocess.SubprocessError):
            yield name, "not there"


def machine():
    """What the figures depend on besides."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    load = "{:.2f}".format(os.getloadavg()[0])
    return (
        f"{cpu[1] if cpu else os.uname().machine}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB of memory, "
        f"Linux {os.uname().release}, load of {load} at the start"
    )
