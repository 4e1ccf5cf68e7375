package metrics

import "github.com/prometheus/client_golang/prometheus"

// Value is one figure that is asked for at a scrape.
type Value struct {
	Name   string // with its unit
	Help   string
	Count  bool     // it only grows
	Labels []string // names and values, one after the other
	Value  float64
}

// Ask has a function called at each scrape for figures that somebody keeps anyway. It must be quick, and give the same names with the same names of labels each time.
func Ask(r *Registry, fn func() []Value) { r.reg.MustRegister(asker(fn)) }

// asker is an unchecked collector: what it has is known when it is asked.
type asker func() []Value

func (asker) Describe(chan<- *prometheus.Desc) {}

func (a asker) Collect(out chan<- prometheus.Metric) {
	for _, v := range a() {
		var names, values []string
		for i := 0; i+1 < len(v.Labels); i += 2 {
			names, values = append(names, v.Labels[i]), append(values, v.Labels[i+1])
		}
		kind := prometheus.GaugeValue
		if v.Count {
			kind = prometheus.CounterValue
		}
		m, err := prometheus.NewConstMetric(prometheus.NewDesc(v.Name, v.Help, names, nil), kind, v.Value, values...)
		if err != nil {
			m = prometheus.NewInvalidMetric(prometheus.NewDesc(v.Name, v.Help, names, nil), err)
		}
		out <- m
	}
}
