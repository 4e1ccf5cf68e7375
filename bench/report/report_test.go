package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// sample has two subjects, a and b, and two others. Median rates of write: 4,
// 2, 1; its run on d failed. Times of scan: 2 s, 1 s, 8 s, 1 s.
func sample() *Report {
	r := &Report{Subjects: []string{"a", "b"}, Peers: []string{"a", "b", "c", "d"}, Rounds: 3, Scale: 1, Machine: map[string]string{"cpus": "2"}}
	row := r.AddRow("table", "write", "MB/s", false)
	for _, v := range []float64{3, 9, 4} {
		row.Runs("a").Add(v, nil)
	}
	row.Runs("b").Add(2, nil)
	row.Runs("c").Add(1, nil)
	row.Runs("d").Error = "no space"
	row = r.AddRow("table", "scan <cold>", "s", true)
	for peer, v := range map[string]float64{"a": 2, "b": 1, "c": 8, "d": 1} {
		row.Runs(peer).Add(v, nil)
	}
	r.AddRow("table", "sync", "op/s", false).Runs("a").Add(400, []time.Duration{4000, 1000, 3000, 2000})
	r.AddRow("keys", "calls", "calls", true).Runs("a").Add(0, nil)
	return r
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := sample().Table(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{
		"load unit a b c d",
		"write MB/s 4.00 2.00 1.00 failed",
		"scan <cold> s 2.00 1.00 8.00 1.00",
		"sync op/s 400 - - -",
		"calls calls 0 - - -",
		"",
		"how many times as good a / c a / d b / a b / c b / d",
		"write 4.00 - 0.50 2.00 -",
		"scan <cold> 4.00 0.50 2.00 8.00 1.00",
		"sync - - - - -",
		"calls - - - - -",
		"",
		"p50/p99 of one operation unit",
		"sync µs 2/3 - - -",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if !strings.Contains(out.String(), "note: write on d: no space") {
		t.Errorf("no note:\n%s", out.String())
	}
}

func TestFailed(t *testing.T) {
	r := sample()
	if err := r.Failed(); err != nil {
		t.Errorf("failure of another peer counts: %v", err)
	}
	r.Row("sync").Runs("b").Error = "wrong data"
	if err := r.Failed(); err == nil || !strings.Contains(err.Error(), "sync on b: wrong data") {
		t.Errorf("%v", err)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := sample().JSON(&out); err != nil {
		t.Fatal(err)
	}
	back, err := Read(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if x := back.Row("write").Runs("a"); len(x.Values) != 3 || x.Median != 4 {
		t.Errorf("%+v", x)
	}
	if x := back.Row("scan <cold>").Ratio("a", "c"); x != 4 {
		t.Errorf("ratio %v", x)
	}
	for _, bad := range []string{"", "[]", "{}", out.String()[:out.Len()/2]} {
		if _, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q was read", bad)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{{nil, 0}, {[]float64{5}, 5}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{1, 2, 3, 10}, 2.5}} {
		if got := median(c.x); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.x, got, c.want)
		}
	}
}
