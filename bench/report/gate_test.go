package report

import (
	"errors"
	"strings"
	"testing"
)

// TestGateComparesRatios: a machine that is four times as slow changes no
// ratio; one peer that is slower by itself does.
func TestGateComparesRatios(t *testing.T) {
	slow := sample()
	for _, x := range slow.Row("write").Peers {
		x.Median /= 4
	}
	for _, x := range slow.Row("scan <cold>").Peers {
		x.Median *= 4
	}
	compared, err := slow.Gate(sample(), 0.1)
	if err != nil || compared != 3+5 {
		t.Errorf("%d compared, %v", compared, err)
	}
}

func TestGateNamesRows(t *testing.T) {
	now := sample()
	now.Row("write").Runs("a").Median = 3.1 // 0.775 of 4
	now.Row("scan <cold>").Runs("b").Median = 2
	_, err := now.Gate(sample(), 0.25)
	if !errors.Is(err, ErrRegression) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"scan <cold>, b / a: ratio 1.00, was 2.00", "scan <cold>, b / c: ratio 4.00, was 8.00", "scan <cold>, b / d: ratio 0.50, was 1.00"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "write") {
		t.Errorf("within the tolerance, but: %v", err)
	}
	if _, err := now.Gate(sample(), 0.2); !errors.Is(err, ErrRegression) || !strings.Contains(err.Error(), "write, a / c: ratio 3.10, was 4.00") {
		t.Errorf("outside the tolerance, but: %v", err)
	}
}

func TestGateNotComparable(t *testing.T) {
	other := sample()
	other.Scale = 0.5
	if _, err := sample().Gate(other, 0.25); !errors.Is(err, ErrNotComparable) {
		t.Errorf("another scale: %v", err)
	}
	other = sample()
	for i := range other.Loads {
		other.Loads[i].Load += ", new"
	}
	if _, err := sample().Gate(other, 0.25); !errors.Is(err, ErrNotComparable) {
		t.Errorf("nothing in common: %v", err)
	}
}
