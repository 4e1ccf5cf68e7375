// Package report holds what a benchmark run found: as a table, as JSON, as a
// plot, and compared with an earlier run. It knows no filesystems: a peer is a
// name; the subjects among them are compared with all others.
//
// Only ratios of peers within one run are compared, never figures of two runs.
// Nothing in here is safe for concurrent use.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is everything that one benchmark run found.
type Report struct {
	Date     time.Time         `json:"date"`
	Machine  map[string]string `json:"machine"`
	Scale    float64           `json:"scale"`
	Rounds   int               `json:"rounds"`
	Notes    []string          `json:"notes,omitempty"`
	Subjects []string          `json:"subjects"` // of the peers, those that are compared with all after them
	Peers    []string          `json:"peers"`
	Loads    []Row             `json:"loads"`
}

// Row is one load with the runs of each peer.
type Row struct {
	Group string           `json:"group"`
	Load  string           `json:"load"`
	Unit  string           `json:"unit"`
	Lower bool             `json:"lower_is_better"`
	Peers map[string]*Runs `json:"peers"`
}

// Runs are the figures of one load on one peer.
type Runs struct {
	Values []float64 `json:"values"` // in the row's unit, one per round
	Median float64   `json:"median"`
	P50    float64   `json:"p50_microseconds,omitempty"` // of single operations, all rounds together
	P99    float64   `json:"p99_microseconds,omitempty"`
	Error  string    `json:"error,omitempty"`

	latencies []time.Duration
}

// Read reads what JSON wrote.
func Read(from io.Reader) (*Report, error) {
	r := &Report{}
	if err := json.NewDecoder(from).Decode(r); err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	if len(r.Peers) == 0 || len(r.Subjects) == 0 || len(r.Loads) == 0 {
		return nil, errors.New("read a report: no peers, subjects or loads in it")
	}
	return r, nil
}

// JSON writes the whole report.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}

// Row returns the row of a load, nil if there is none.
func (r *Report) Row(load string) *Row {
	for i := range r.Loads {
		if r.Loads[i].Load == load {
			return &r.Loads[i]
		}
	}
	return nil
}

// AddRow returns the row of a load, made at its first use.
func (r *Report) AddRow(group, load, unit string, lower bool) *Row {
	if row := r.Row(load); row != nil {
		return row
	}
	r.Loads = append(r.Loads, Row{Group: group, Load: load, Unit: unit, Lower: lower, Peers: map[string]*Runs{}})
	return &r.Loads[len(r.Loads)-1]
}

// Runs returns the runs of a peer, made at its first use.
func (row *Row) Runs(peer string) *Runs {
	if row.Peers[peer] == nil {
		row.Peers[peer] = &Runs{}
	}
	return row.Peers[peer]
}

// Add adds the figure of a round, and the times of its single operations if
// it has them.
func (r *Runs) Add(value float64, latencies []time.Duration) {
	r.Values = append(r.Values, value)
	r.Median = median(r.Values)
	if len(latencies) == 0 {
		return
	}
	r.latencies = append(r.latencies, latencies...)
	slices.Sort(r.latencies)
	r.P50 = quantile(r.latencies, 0.50)
	r.P99 = quantile(r.latencies, 0.99)
}

// median of an even number is the mean of the two in the middle; 0 of none.
func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// quantile of sorted durations, in microseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Microsecond)
}

// Ratio says how many times as good as other subject is in this row (2 is
// twice the rate, or half the time); 0 if that is not known.
func (row *Row) Ratio(subject, other string) float64 {
	s, o := row.Peers[subject], row.Peers[other]
	if s == nil || o == nil || s.Error != "" || o.Error != "" || s.Median <= 0 || o.Median <= 0 {
		return 0
	}
	if row.Lower {
		return o.Median / s.Median
	}
	return s.Median / o.Median
}

// Pair is a subject and what it is compared with.
type Pair struct{ Subject, Other string }

func (p Pair) String() string { return p.Subject + " / " + p.Other }

// Pairs returns all comparisons that the report makes: each subject with all
// peers that are no subjects, and later subjects with the first.
func (r *Report) Pairs() (pairs []Pair) {
	for i, s := range r.Subjects {
		if i > 0 {
			pairs = append(pairs, Pair{s, r.Subjects[0]})
		}
		for _, p := range r.Peers {
			if !slices.Contains(r.Subjects, p) {
				pairs = append(pairs, Pair{s, p})
			}
		}
	}
	return pairs
}

// Failed returns an error that names the loads that failed on a subject, nil
// if there are none.
func (r *Report) Failed() error {
	var err error
	for _, row := range r.Loads {
		for _, s := range r.Subjects {
			if x := row.Peers[s]; x != nil && x.Error != "" {
				err = errors.Join(err, fmt.Errorf("%s on %s: %s", row.Load, s, x.Error))
			}
		}
	}
	return err
}
