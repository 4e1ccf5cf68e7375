package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// latencies are the buckets of all histograms: from a hit in a cache to a token that hangs, in seconds.
var latencies = []float64{20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1, 2, 5, 10}

// Files counts requests of the kernel. It is what fs.MountOptions.Meter takes.
type Files struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	read    prometheus.Counter
	written prometheus.Counter
}

// NewFiles adds the figures of requests.
func NewFiles(r *Registry) *Files {
	f := &Files{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kmsfs_request_seconds", Help: "Time from taking a request of the kernel to its answer.", Buckets: latencies}, []string{"op"}),
		errors:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kmsfs_request_errors_total", Help: "Requests that were answered with an error."}, []string{"op", "errno"}),
		read:    prometheus.NewCounter(prometheus.CounterOpts{Name: "kmsfs_read_bytes_total", Help: "Bytes of files given to the kernel."}),
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "kmsfs_written_bytes_total", Help: "Bytes of files taken from the kernel."}),
	}
	r.reg.MustRegister(f.seconds, f.errors, f.read, f.written)
	return f
}

// Request counts one: errno is its name, "" for success.
func (f *Files) Request(op string, took time.Duration, errno string) {
	f.seconds.WithLabelValues(op).Observe(took.Seconds())
	if errno != "" {
		f.errors.WithLabelValues(op, errno).Inc()
	}
}

// Read counts bytes of a file that were given out.
func (f *Files) Read(n int) { f.read.Add(float64(n)) }

// Written counts bytes of a file that were taken.
func (f *Files) Written(n int) { f.written.Add(float64(n)) }

// Calls counts calls of a key manager, by who makes them or by itself.
type Calls struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	code    func(error) string
}

// NewCalls adds the figures of calls, with a prefix in front of their names. code names errors; it returns one of few names.
func NewCalls(r *Registry, prefix, help string, code func(error) string) *Calls {
	c := &Calls{code: code,
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "_seconds", Help: help, Buckets: latencies}, []string{"op"}),
		errors:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_errors_total", Help: help + " Those that failed."}, []string{"op", "error"}),
	}
	r.reg.MustRegister(c.seconds, c.errors)
	return c
}

// Call counts one.
func (c *Calls) Call(op string, took time.Duration, err error) {
	c.seconds.WithLabelValues(op).Observe(took.Seconds())
	if err != nil {
		c.errors.WithLabelValues(op, c.code(err)).Inc()
	}
}

// Audit counts what is recorded, on its way to a recorder.
type Audit struct {
	to        audit.Recorder
	decisions *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	failed    *prometheus.CounterVec
	waiting   prometheus.Gauge
}

var _ audit.Recorder = (*Audit)(nil)

// NewAudit returns a recorder that counts, and hands on to another.
func NewAudit(r *Registry, to audit.Recorder) *Audit {
	a := &Audit{to: to,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kmsfs_decisions_total", Help: "Decisions that were recorded, by what was asked and the outcome."}, []string{"event", "decision"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kmsfs_audit_record_seconds", Help: "Time until an event is in the audit log, and on disk where its class asks for that.", Buckets: latencies}, []string{"class"}),
		failed:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kmsfs_audit_failures_total", Help: "Events that could not be recorded."}, []string{"class"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kmsfs_audit_waiting", Help: "Requests that wait for their event to be recorded."}),
	}
	r.reg.MustRegister(a.decisions, a.seconds, a.failed, a.waiting)
	return a
}

// Record is audit.Recorder's.
func (a *Audit) Record(ctx context.Context, e *audit.Event) error {
	a.waiting.Inc()
	began := time.Now()
	err := a.to.Record(ctx, e)
	a.waiting.Dec()
	class := e.Class.String()
	a.seconds.WithLabelValues(class).Observe(time.Since(began).Seconds())
	a.decisions.WithLabelValues(e.Name, string(e.Decision)).Inc()
	if err != nil && !errors.Is(err, context.Canceled) {
		a.failed.WithLabelValues(class).Inc()
	}
	return err
}
