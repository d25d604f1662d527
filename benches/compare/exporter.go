// An exporter on client_golang, with the gauges that a file in the text format holds.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
)

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(file)
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	for _, family := range families {
		var names []string
		for _, pair := range family.Metric[0].Label {
			names = append(names, pair.GetName())
		}
		gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: family.GetName(), Help: family.GetHelp()}, names)
		registry.MustRegister(gauge)
		for _, metric := range family.Metric {
			labels := prometheus.Labels{}
			for _, pair := range metric.Label {
				labels[pair.GetName()] = pair.GetValue()
			}
			gauge.With(labels).Set(metric.Gauge.GetValue())
		}
	}
	// What was read is not needed any more, and the collector shall not have to look at it.
	families = nil
	http.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[2], nil))
}
