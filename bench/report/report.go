// Package report turns timed runs into a table and into JSON. It knows no
// filesystems: a peer is a name, and the first one is compared with the rest.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is everything that one benchmark run found.
type Report struct {
	Date    time.Time         `json:"date"`
	Machine map[string]string `json:"machine"`
	Scale   float64           `json:"scale"`
	Rounds  int               `json:"rounds"`
	Notes   []string          `json:"notes,omitempty"`
	Peers   []string          `json:"peers"`
	Loads   []Row             `json:"loads"`
}

// Row is one load with the runs of each peer.
type Row struct {
	Load  string           `json:"load"`
	Unit  string           `json:"unit"`
	Peers map[string]*Runs `json:"peers"`
}

// Runs are the timed runs of one load on one peer.
type Runs struct {
	Seconds []float64 `json:"seconds"` // one per round
	Work    float64   `json:"work,omitempty"`
	Median  float64   `json:"median_seconds"`
	P50     float64   `json:"p50_microseconds,omitempty"` // of single operations, all rounds together
	P99     float64   `json:"p99_microseconds,omitempty"`
	Error   string    `json:"error,omitempty"`

	latencies []time.Duration
}

// Row returns the row of a load, made at its first use.
func (r *Report) Row(load, unit string) *Row {
	for i := range r.Loads {
		if r.Loads[i].Load == load {
			return &r.Loads[i]
		}
	}
	r.Loads = append(r.Loads, Row{Load: load, Unit: unit, Peers: map[string]*Runs{}})
	return &r.Loads[len(r.Loads)-1]
}

// Runs returns the runs of a peer, made at its first use.
func (row *Row) Runs(peer string) *Runs {
	if row.Peers[peer] == nil {
		row.Peers[peer] = &Runs{}
	}
	return row.Peers[peer]
}

// Add adds a run of work units of the row's unit per second (0 for seconds).
func (r *Runs) Add(elapsed time.Duration, work float64, latencies []time.Duration) {
	r.Seconds = append(r.Seconds, elapsed.Seconds())
	r.Work = work
	r.Median = median(r.Seconds)
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

// ratio says how many times as fast as other r is; 0 if unknown.
func (r *Runs) ratio(other *Runs) float64 {
	if r == nil || other == nil || r.Median == 0 || other.Median == 0 {
		return 0
	}
	return other.Median / r.Median
}

// figure is the median in the row's unit.
func (r *Runs) figure(unit string) string {
	switch {
	case r == nil || (len(r.Seconds) == 0 && r.Error == ""):
		return "-"
	case r.Error != "":
		return "failed"
	case unit == "s" || r.Work == 0:
		return fmt.Sprintf("%.2f", r.Median)
	default:
		return fmt.Sprintf("%.0f", r.Work/r.Median)
	}
}

// Table writes the medians, and for each further peer how many times as fast
// as it the first one is (2.0: half the time). Latencies follow below.
func (r *Report) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "load\tunit\t")
	for _, p := range r.Peers {
		fmt.Fprintf(tw, "%s\t", p)
	}
	for _, p := range r.others() {
		fmt.Fprintf(tw, "x %s\t", p)
	}
	fmt.Fprintln(tw)
	for _, row := range r.Loads {
		fmt.Fprintf(tw, "%s\t%s\t", row.Load, row.Unit)
		for _, p := range r.Peers {
			fmt.Fprintf(tw, "%s\t", row.Peers[p].figure(row.Unit))
		}
		for _, p := range r.others() {
			if x := row.Peers[r.Peers[0]].ratio(row.Peers[p]); x > 0 {
				fmt.Fprintf(tw, "%.2f\t", x)
			} else {
				fmt.Fprint(tw, "-\t")
			}
		}
		fmt.Fprintln(tw)
	}
	r.latencies(tw)
	if err := tw.Flush(); err != nil {
		return err
	}
	return r.footer(w)
}

func (r *Report) others() []string { return r.Peers[min(1, len(r.Peers)):] }

// latencies writes the quantiles of loads that have operations.
func (r *Report) latencies(w io.Writer) {
	for _, row := range r.Loads {
		if !slices.ContainsFunc(r.Peers, func(p string) bool { return row.Peers[p] != nil && row.Peers[p].P50 > 0 }) {
			continue
		}
		fmt.Fprintf(w, "%s\tµs p50/p99\t", row.Load)
		for _, p := range r.Peers {
			if x := row.Peers[p]; x != nil && x.P50 > 0 {
				fmt.Fprintf(w, "%.0f/%.0f\t", x.P50, x.P99)
			} else {
				fmt.Fprint(w, "-\t")
			}
		}
		fmt.Fprintln(w)
	}
}

func (r *Report) footer(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "\nmedians of %d rounds at scale %g; x: how many times as fast as\n", r.Rounds, r.Scale); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(r.Machine)) {
		if _, err := fmt.Fprintf(w, "%s: %s\n", key, r.Machine[key]); err != nil {
			return err
		}
	}
	notes := slices.Clone(r.Notes)
	for _, row := range r.Loads {
		for _, p := range r.Peers {
			if x := row.Peers[p]; x != nil && x.Error != "" {
				notes = append(notes, fmt.Sprintf("%s on %s: %s", row.Load, p, x.Error))
			}
		}
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(w, "note:", n); err != nil {
			return err
		}
	}
	return nil
}

// Failed returns an error that names the loads that failed on the first peer,
// nil if there are none.
func (r *Report) Failed() error {
	var err error
	for _, row := range r.Loads {
		if x := row.Peers[r.Peers[0]]; x != nil && x.Error != "" {
			err = errors.Join(err, fmt.Errorf("%s on %s: %s", row.Load, r.Peers[0], x.Error))
		}
	}
	return err
}

// JSON writes the whole report.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}
