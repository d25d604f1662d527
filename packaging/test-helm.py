#!/usr/bin/env python3
"""Checks the Helm chart without a cluster: Helm's own engine (PyPI helm-python-sdk) lints and renders
it, and what comes out is compared with Kubernetes' schemas (PyPI kubernetes-validate).

    packaging/test-helm.py PROGRAM

PROGRAM, the exporter, is asked whether it understands the configuration that the chart writes.
"""

import base64
import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import helm_python
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm"
PROGRAM = sys.argv[1]
# The oldest that Chart.yaml allows, and one that is current.
KUBERNETES = ("1.25", "1.34")
# The operator's kinds, of which Kubernetes publishes no schema.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}

# Helm tells of each link that it follows, each time; errors of this script are still shown.
sys.stderr = os.fdopen(os.dup(2), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

OWN_SECRET = yaml.safe_load((CHART / "ci/own-secret-values.yaml").read_text())
TLS = yaml.safe_load((CHART / "ci/tls-values.yaml").read_text())
SHARDS = yaml.safe_load((CHART / "ci/shards-values.yaml").read_text())
EVERYTHING = yaml.safe_load((CHART / "ci/everything-values.yaml").read_text())
checks = 0


def check(condition, message):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"deploy/helm: {message}")


def changed(values, path, value):
    values = copy.deepcopy(values)
    *sections, name = path.split(".")
    at = values
    for section in sections:
        at = at.setdefault(section, {})
    at[name] = value
    return values


def render(values):
    """Every document by kind and name, and the notes."""
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="certs", namespace="monitoring")
    notes = "".join(text for file, text in files.items() if file.endswith("NOTES.txt"))
    documents = {}
    for file, text in files.items():
        if file.endswith((".yaml", ".yml")):
            for document in yaml.safe_load_all(text):
                if document is not None:
                    key = (document["kind"], document["metadata"]["name"])
                    check(key not in documents, f"{key} is there twice")
                    documents[key] = document
    return documents, notes


def expect_refused(values, word):
    try:
        render(values)
    except helm_python.HelmError as error:
        check(word in str(error), f"{word!r} is missing in: {error}")
    else:
        check(False, f"values are accepted that must not be, with {word}")


def workload(documents):
    found, = (d for (kind, _), d in documents.items() if kind in ("Deployment", "StatefulSet"))
    return found


def pod(documents):
    return workload(documents)["spec"]["template"]["spec"]


def claim_templates(documents):
    return workload(documents)["spec"].get("volumeClaimTemplates", [])


def secret_of(documents):
    return next((d for (kind, _), d in documents.items() if kind == "Secret"), None)


def config_of(documents):
    return next(d["data"]["config.toml"] for d in documents.values() if "config.toml" in d.get("data", {}))


def check_restricted(documents):
    """The profile "restricted" of Kubernetes' pod security standards."""
    spec = pod(documents)
    container, = spec["containers"]
    context, own = spec["securityContext"], container["securityContext"]
    check(context["runAsNonRoot"] is True and context["runAsUser"] > 0, "the pod may run as root")
    check(context["seccompProfile"] == {"type": "RuntimeDefault"}, "the pod has no seccomp profile")
    check(own["allowPrivilegeEscalation"] is False, "the container may gain privileges")
    check(own["readOnlyRootFilesystem"] is True, "the container may write to its image")
    check(own["capabilities"] == {"drop": ["ALL"]}, "the container has capabilities")
    check(spec["automountServiceAccountToken"] is False, "the pod gets a token of the cluster")
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        check(name not in spec, name)
    for volume in spec["volumes"]:
        check(set(volume) - {"name"} <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}, str(volume))
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    claims = [claim["metadata"]["name"] for claim in claim_templates(documents)]
    check(sorted(mounted) == sorted([volume["name"] for volume in spec["volumes"]] + claims), "volumes and mounts differ")
    for probe in ("livenessProbe", "readinessProbe"):
        check(container[probe]["httpGet"]["port"] == "probes", f"{probe} asks the port that may need a password")


def check_understood(documents, shard=None):
    """The program reads what the chart has written, with a directory in place of each that the pod has."""
    arguments = pod(documents)["containers"][0]["args"]
    of_shard = [argument.replace("$(SHARD)", str(shard)) for argument in arguments if "shard" in argument]
    check(bool(of_shard) == (shard is not None), f"arguments of shard {shard}: {of_shard}")
    with tempfile.TemporaryDirectory() as directory:
        config = config_of(documents)
        secrets, state = "/run/secrets/", "/var/lib/cloudflare-cert-exporter"
        config = config.replace(secrets, directory + secrets).replace(state, directory + state)
        os.makedirs(directory + state)
        for file, text in {"cloudflare-cert-exporter/token": "not-a-token", "other/token": "not-a-token",
                           "cloudflare-cert-exporter-web/web-config.yml": "basic_auth_users: {}"}.items():
            file = pathlib.Path(directory + secrets, file)
            file.parent.mkdir(parents=True)
            file.write_text(text)
            file.chmod(0o600)
        file = pathlib.Path(directory, "config.toml")
        file.write_text(config)
        command = [PROGRAM, "check-config", "--config.file", file, *of_shard]
        done = subprocess.run(command, env={}, capture_output=True, text=True)
        check(done.returncode == 0, f"the program does not understand the configuration:\n{config}\n{done.stderr}")
        check("example.com" in done.stdout, done.stdout)
        return done.stdout


def check_shards():
    """Each pod has an ordinal, a part of the budget and a volume of its own, and needs no permission in the cluster."""
    documents, notes = render(SHARDS)
    kinds = {kind for kind, _ in documents}
    check(kinds == {"ConfigMap", "Service", "ServiceAccount", "StatefulSet"}, str(kinds))
    check("logs statefulset/" in notes and "port-forward pod/certs-cloudflare-cert-exporter-0" in notes, notes)
    spec = workload(documents)["spec"]
    check(spec["replicas"] == 3 and ("Service", spec["serviceName"]) in documents, str(spec))
    claim, = claim_templates(documents)
    check(claim["spec"]["resources"]["requests"] == {"storage": "100Mi"}, str(claim))
    own, other = pod(documents)["containers"][0]["env"]
    label = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    check(own == {"name": "SHARD", "valueFrom": label} and other == SHARDS["extraEnv"][0], f"{own} {other}")
    for shard in range(3):
        printed = check_understood(documents, shard)
        check(f"This is shard {shard} of 3" in printed and "divided among 3 shards" in printed, printed)
    documents, _ = render(changed(SHARDS, "persistence", {}))
    check({"name": "state", "emptyDir": {}} in pod(documents)["volumes"] and not claim_templates(documents), "no state")
    expect_refused(changed(SHARDS, "persistence.existingClaim", "mine"), "existingClaim")


def check_same_rules(documents):
    rule = documents[("PrometheusRule", "certificates")]
    text = (ROOT / "monitoring/alerts.yml").read_text()
    placeholder = "https://example.com/cloudflare-cert-exporter"
    moved = text.replace(placeholder, EVERYTHING["prometheusRule"]["runbookUrl"].rstrip("/"))
    check(moved != text, f"no link in monitoring/alerts.yml starts with {placeholder}, which runbookUrl replaces")
    check(rule["spec"] == yaml.safe_load(moved), "the PrometheusRule is not monitoring/alerts.yml")
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump(rule["spec"], file)
        file.flush()
        done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True)
        check(done.returncode == 0, done.stdout + done.stderr)


# Helm itself has nothing to say against it.
for values in (OWN_SECRET, TLS, SHARDS, EVERYTHING):
    result = helm_python.lint(str(CHART), values)
    messages = result.get("messages") or result.get("findings") or []
    bad = [m for m in messages if str(m.get("severity")).upper() in ("2", "3", "WARNING", "ERROR")]
    check(not bad, f"lint: {bad}")
with helm_python.Chart.load(str(CHART)) as chart:
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    check(chart.metadata["appVersion"] == version, "appVersion is not the version in Cargo.toml")
    names = set(chart.values)
    schema = chart.schema
    check(names == set(schema["properties"]) - {"global"}, "values.yaml and values.schema.json name different values")

for values in (OWN_SECRET, TLS, SHARDS, EVERYTHING, changed(OWN_SECRET, "persistence", {"enabled": True, "existingClaim": "mine"})):
    documents, notes = render(values)
    for (kind, name), document in documents.items():
        check(document["metadata"]["namespace"] == "monitoring", f"{kind} {name} is in another namespace")
        if kind not in CUSTOM:
            for kubernetes in KUBERNETES:
                kubernetes_validate.validate(document, kubernetes, strict=True)
                checks += 1
    check_restricted(documents)
    check_understood(documents, shard=0 if values is SHARDS else None)
    check("every zone" not in notes, notes)

documents, _ = render(OWN_SECRET)
check({kind for kind, _ in documents} == {"ConfigMap", "Deployment", "Service", "ServiceAccount"}, str(documents.keys()))
check(pod(documents)["containers"][0]["image"] == f"registry.example.com/cloudflare-cert-exporter:{version}", "the image is another one")
token, = [v["secret"] for v in pod(documents)["volumes"] if v["name"] == "token"]
check(token["secretName"] == "cloudflare" and token["items"] == [{"key": "api-token", "path": "token"}], str(token))

check(workload(documents)["spec"]["strategy"] == {"type": "Recreate"}, "two pods could be there at once")

check_shards()

documents, _ = render(TLS)
check({kind for kind, _ in documents} == {"ConfigMap", "Deployment", "Service", "ServiceAccount", "ServiceMonitor"}, str(documents.keys()))
check(config_of(documents).count("[credentials.default]") == 1, "there are two credentials of one name")
spec = pod(documents)
mounted = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
secrets = {volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
check(secrets == {"web-config": "exporter-web", "other": "other"}, str(secrets))
check(f'web_config_file = "{mounted["web-config"]}/web-config.yml"' in config_of(documents), "the web configuration is not used")
endpoint, = next(d for (kind, _), d in documents.items() if kind == "ServiceMonitor")["spec"]["endpoints"]
for name in ("scheme", "path", "tlsConfig", "basicAuth"):
    check(endpoint[name] == TLS["serviceMonitor"][name], f"the monitor has another {name}")

documents, notes = render(EVERYTHING)
check("RUNBOOK" not in notes, notes)
_, notes = render(changed(EVERYTHING, "prometheusRule.runbookUrl", ""))
check("RUNBOOK" in notes, notes)
kinds = {kind for kind, _ in documents}
check(kinds == {"ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "PrometheusRule", "Secret",
                "Service", "ServiceAccount", "ServiceMonitor"}, str(kinds))
secret = secret_of(documents)
check(base64.b64decode(secret["data"]["token"]) == b"not-a-token", "the Secret holds something else")
others = json.dumps([d for d in documents.values() if d is not secret])
check("not-a-token" not in others and secret["data"]["token"] not in others, "the token is not in the Secret alone")
check("@sha256:" in pod(documents)["containers"][0]["image"], "the digest is not used")
monitor = documents[("ServiceMonitor", "certificates")]["spec"]
service = documents[("Service", "certificates")]
check(monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items(), "the monitor finds no service")
check(monitor["endpoints"][0]["port"] in {p["name"] for p in service["spec"]["ports"]}, "the monitor finds no port")
pod_labels = documents[("Deployment", "certificates")]["spec"]["template"]["metadata"]["labels"]
check(service["spec"]["selector"].items() <= pod_labels.items(), "the service finds no pod")
check_same_rules(documents)
dashboard = documents[("ConfigMap", "certificates-dashboard")]["data"]["cloudflare-cert-exporter.json"]
check(json.loads(dashboard) == json.loads((ROOT / "monitoring/dashboard.json").read_text()), "the dashboard is another")

# What cannot work is refused, with a word that leads to it.
expect_refused(changed(OWN_SECRET, "token.existingSecret", ""), "token.existingSecret")
expect_refused(changed(OWN_SECRET, "image.repository", ""), "image.repository")
for path, value, word in (
    ("image.tag", "a b", "tag"),
    ("image.digest", "latest", "digest"),
    ("image.pullPolicy", "Sometimes", "pullPolicy"),
    ("imag", {}, "imag"),
    ("token.vlaue", "x", "vlaue"),
    ("token.value", "two words", "value"),
    ("shards", 0, "shards"),
    ("shards", 1001, "shards"),
    ("shards", "two", "shards"),
    ("config", 5, "config"),
    ("config", "[server]\n", "config"),
    ("config", "x = 1\n [ credentials.default ]\n", "config"),
    ("token.enabled", "no", "enabled"),
    ("webConfig.existingSecret", 5, "existingSecret"),
    ("log.level", "loud", "level"),
    ("service.port", 0, "port"),
    ("service.port", "http", "port"),
    ("persistence.size", "much", "size"),
    ("persistence.accessModes", [], "accessModes"),
    ("serviceMonitor.interval", "often", "interval"),
    ("serviceMonitor.scheme", "ftp", "scheme"),
    ("serviceMonitor.path", "metrics", "path"),
    ("prometheusRule.runbookUrl", "wiki", "runbookUrl"),
    ("networkPolicy.from", "anywhere", "from"),
):
    expect_refused(changed(OWN_SECRET, path, value), word)

_, notes = render({"image": {"repository": "exporter"}, "token": {"existingSecret": "cloudflare"}})
check("every zone" in notes, notes)

print(f"The chart passes {checks} checks with Helm {helm_python.helm_sdk_version()}, and the schemas of Kubernetes {' and '.join(KUBERNETES)}.")
