package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func sample() *Report {
	r := &Report{Peers: []string{"a", "b", "c"}, Rounds: 3, Scale: 1, Machine: map[string]string{"cpus": "2"}}
	row := r.Row("write", "MB/s")
	for _, ms := range []int{300, 100, 200} {
		row.Runs("a").Add(time.Duration(ms)*time.Millisecond, 100, nil)
	}
	row.Runs("b").Add(400*time.Millisecond, 100, nil)
	row.Runs("c").Error = "no space"
	ops := r.Row("sync", "op/s")
	ops.Runs("a").Add(time.Second, 4, []time.Duration{4000, 1000, 3000, 2000})
	return r
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := sample().Table(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{
		"load unit a b c x b x c",
		"write MB/s 500 250 failed 2.00 -",
		"sync op/s 4 - - - -",
		"sync µs p50/p99 2/3 - -",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if !strings.Contains(out.String(), "note: write on c: no space") {
		t.Errorf("no note:\n%s", out.String())
	}
}

func TestFailed(t *testing.T) {
	r := sample()
	if err := r.Failed(); err != nil {
		t.Errorf("failure of another peer counts: %v", err)
	}
	r.Row("sync", "op/s").Runs("a").Error = "wrong data"
	if err := r.Failed(); err == nil || !strings.Contains(err.Error(), "wrong data") {
		t.Errorf("%v", err)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := sample().JSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if x := back.Row("write", "").Runs("a"); len(x.Seconds) != 3 || x.Median != 0.2 || x.Work != 100 {
		t.Errorf("%+v", x)
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
