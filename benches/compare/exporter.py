"""An exporter on prometheus_client, with the gauges that a file in the text format holds."""

import sys
import threading

from prometheus_client import CollectorRegistry, Gauge, start_http_server
from prometheus_client.parser import text_fd_to_metric_families

file, port = sys.argv[1:]
registry = CollectorRegistry()
with open(file) as text:
    for family in text_fd_to_metric_families(text):
        names = list(family.samples[0].labels)
        gauge = Gauge(family.name, family.documentation, names, registry=registry)
        for sample in family.samples:
            gauge.labels(**sample.labels).set(sample.value)
start_http_server(int(port), "127.0.0.1", registry)
threading.Event().wait()
