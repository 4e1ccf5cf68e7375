package kms

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const workers = 8

// subject is one thing that is measured. call is made by the workers side by side; w is a worker's number.
type subject struct {
	name string
	call func(w int) error

	rates     []float64 // calls a second, by round
	latencies []time.Duration
}

// round measures a subject for about d.
func (s *subject) round(t *testing.T, d time.Duration) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	took := make([][]time.Duration, workers)
	begin := time.Now()
	for w := range workers {
		wg.Go(func() {
			for !stop.Load() {
				from := time.Now()
				if err := s.call(w); err != nil {
					t.Errorf("%s: %v", s.name, err)
					return
				}
				took[w] = append(took[w], time.Since(from))
			}
		})
	}
	time.Sleep(d) // how long a round takes, nothing is decided by it
	stop.Store(true)
	wg.Wait()
	elapsed := time.Since(begin)
	calls := 0
	for _, l := range took {
		calls += len(l)
		s.latencies = append(s.latencies, l...)
	}
	s.rates = append(s.rates, float64(calls)/elapsed.Seconds())
}

// against is the median of the ratios of paired rounds.
func (s *subject) against(other *subject) float64 {
	ratios := make([]float64, len(s.rates))
	for i := range ratios {
		ratios[i] = s.rates[i] / other.rates[i]
	}
	return median(ratios)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// line is a row of the table, with the ratios to others; nil leaves a place empty.
func (s *subject) line(others []*subject) string {
	slices.SortFunc(s.latencies, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	at := func(q float64) int64 { return s.latencies[int(q*float64(len(s.latencies)-1))].Microseconds() }
	out := fmt.Sprintf("%30s %9.0f %8d %8d", s.name, median(s.rates), at(0.5), at(0.99))
	for _, other := range others {
		if other == nil || other == s {
			out += fmt.Sprintf(" %9s", "")
			continue
		}
		out += fmt.Sprintf(" %9.2f", s.against(other))
	}
	return out
}
