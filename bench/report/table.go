package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
)

// Table writes the medians, then the ratios of each subject to the others
// (2.0: twice as good), then latencies, the machine and notes.
func (r *Report) Table(w io.Writer) error {
	for _, section := range []func(io.Writer){r.figures, r.ratios, r.latencies} {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		section(tw)
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return r.footer(w)
}

func (r *Report) figures(w io.Writer) {
	fmt.Fprint(w, "load\tunit\t")
	for _, p := range r.Peers {
		fmt.Fprintf(w, "%s\t", p)
	}
	fmt.Fprintln(w)
	for _, row := range r.Loads {
		fmt.Fprintf(w, "%s\t%s\t", row.Load, row.Unit)
		for _, p := range r.Peers {
			fmt.Fprintf(w, "%s\t", row.Peers[p].figure())
		}
		fmt.Fprintln(w)
	}
}

// figure is the median as a cell of the table.
func (r *Runs) figure() string {
	switch {
	case r == nil:
		return "-"
	case r.Error != "":
		return "failed"
	case len(r.Values) == 0:
		return "-"
	case r.Median >= 100 || r.Median == 0:
		return strconv.FormatFloat(r.Median, 'f', 0, 64)
	default:
		return strconv.FormatFloat(r.Median, 'f', 2, 64)
	}
}

func (r *Report) ratios(w io.Writer) {
	pairs := r.Pairs()
	if len(pairs) == 0 {
		return
	}
	fmt.Fprint(w, "\nhow many times as good\t")
	for _, p := range pairs {
		fmt.Fprintf(w, "%s\t", p)
	}
	fmt.Fprintln(w)
	for _, row := range r.Loads {
		fmt.Fprintf(w, "%s\t", row.Load)
		for _, p := range pairs {
			fmt.Fprintf(w, "%s\t", ratio(row.Ratio(p.Subject, p.Other)))
		}
		fmt.Fprintln(w)
	}
}

// ratio as a cell of the table.
func ratio(x float64) string {
	switch {
	case x == 0:
		return "-"
	case x < 0.1:
		return strconv.FormatFloat(x, 'g', 2, 64)
	default:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
}

// latencies writes the quantiles of loads that have operations.
func (r *Report) latencies(w io.Writer) {
	header := false
	for _, row := range r.Loads {
		if !slices.ContainsFunc(r.Peers, func(p string) bool { return row.Peers[p] != nil && row.Peers[p].P50 > 0 }) {
			continue
		}
		if !header {
			fmt.Fprintln(w, "\np50/p99 of one operation\tunit\t")
			header = true
		}
		fmt.Fprintf(w, "%s\tµs\t", row.Load)
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
	if _, err := fmt.Fprintf(w, "\nmedians of %d rounds at scale %g; only ratios within this run can be compared\n", r.Rounds, r.Scale); err != nil {
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
