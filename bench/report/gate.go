package report

import (
	"errors"
	"fmt"
)

// ErrRegression says that a ratio is worse than it was, beyond the tolerance.
var ErrRegression = errors.New("slower than the earlier run, against the same peer")

// ErrNotComparable says that two runs have no ratios in common.
var ErrNotComparable = errors.New("the runs cannot be compared")

// Gate compares the ratios of this run with those of an earlier one. A ratio
// may fall to (1-tolerance) of what it was. The error wraps ErrRegression and
// names each row and pair that fell further, or ErrNotComparable. Rows and
// peers that only one run has are not compared; compared says how many ratios
// were.
func (r *Report) Gate(earlier *Report, tolerance float64) (compared int, err error) {
	if r.Scale != earlier.Scale {
		return 0, fmt.Errorf("%w: scale %g now, %g then; run with -scale %g", ErrNotComparable, r.Scale, earlier.Scale, earlier.Scale)
	}
	var worse []error
	for i := range r.Loads {
		row := &r.Loads[i]
		then := earlier.Row(row.Load)
		if then == nil || then.Lower != row.Lower {
			continue
		}
		for _, p := range r.Pairs() {
			was, is := then.Ratio(p.Subject, p.Other), row.Ratio(p.Subject, p.Other)
			if was == 0 || is == 0 {
				continue
			}
			compared++
			if is < was*(1-tolerance) {
				worse = append(worse, fmt.Errorf("%s, %s: ratio %.2f, was %.2f", row.Load, p, is, was))
			}
		}
	}
	switch {
	case compared == 0:
		return 0, fmt.Errorf("%w: no load and pair of peers in common", ErrNotComparable)
	case worse != nil:
		return compared, fmt.Errorf("%w (tolerance %g):\n%w", ErrRegression, tolerance, errors.Join(worse...))
	}
	return compared, nil
}
