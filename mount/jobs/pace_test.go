package jobs

import (
	"context"
	"testing"
	"time"
)

// handClock goes on when it is slept by.
type handClock struct{ now time.Time }

func (c *handClock) Now() time.Time                           { return c.now }
func (c *handClock) Sleep(_ context.Context, d time.Duration) { c.now = c.now.Add(d) }

// TestPace works with a clock of its own: n bytes, then the sleep that is owed.
func TestPace(t *testing.T) {
	begin := time.Unix(1000, 0)
	for _, c := range []struct {
		name string
		rate uint64
		cpu  uint8
		work time.Duration // of each step of 1 MiB
		want time.Duration // that 100 steps take, sleep included
	}{
		{"no limit", 0, 0, 10 * time.Millisecond, time.Second},
		{"rate", 10 << 20, 0, time.Millisecond, 10 * time.Second},
		{"a rate that is not reached", 1 << 30, 0, 10 * time.Millisecond, time.Second},
		{"half of the time", 0, 50, 10 * time.Millisecond, 2 * time.Second},
		{"a quarter of the time", 0, 25, 10 * time.Millisecond, 4 * time.Second},
		{"all of the time", 0, 100, 10 * time.Millisecond, time.Second},
		{"both", 10 << 20, 25, 10 * time.Millisecond, 10 * time.Second},
	} {
		clock := &handClock{now: begin}
		p := newPace(clock, c.rate, c.cpu)
		for range 100 {
			p.begin()
			clock.now = clock.now.Add(c.work)
			p.step(t.Context(), 1<<20)
		}
		now := clock.now
		if took := now.Sub(begin); took < c.want*95/100 || took > c.want*105/100 {
			t.Errorf("%s: %v, want %v", c.name, took, c.want)
		}
	}
}

// TestPaceAfterAPause: time in which nothing was done is not made up for.
func TestPaceAfterAPause(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPace(&handClock{now: now}, 1<<20, 0)
	now = now.Add(time.Hour)
	p.owe(now, 1<<20)
	p.owed = 0
	if p.owe(now, 4<<20); p.owed < 3*time.Second {
		t.Errorf("%v after an hour, want 4 s", p.owed)
	}
}

// TestMost: a step is what the rate allows for a second, and what a share of the time allows with the sleep that it costs, on machines of any speed.
func TestMost(t *testing.T) {
	for _, c := range []struct {
		rate uint64
		cpu  uint8
		want int
	}{{0, 0, 0}, {0, 100, 0}, {300_000, 0, 300_000}, {300_000, 50, 300_000}, {1 << 40, 0, mostAtOnce}, {1 << 40, 50, leastAtOnce}} {
		if p := newPace(&handClock{}, c.rate, c.cpu); p.most() != c.want {
			t.Errorf("rate %d, cpu %d: %d bytes, want %d", c.rate, c.cpu, p.most(), c.want)
		}
	}
	for _, c := range []struct {
		speed int // bytes per second, beside 10 ms for a flush
		cpu   uint8
		want  int // bytes of a step in the end
	}{{1 << 30, 50, mostAtOnce}, {100 << 20, 50, 32 << 20}, {100 << 20, 20, 16 << 20}, {100 << 20, 5, 2 << 20}, {100 << 20, 1, leastAtOnce}, {5 << 20, 10, leastAtOnce}} {
		clock := &handClock{now: time.Unix(1000, 0)}
		p := newPace(clock, 0, c.cpu)
		for i := range 40 {
			p.begin()
			n, began := p.most(), clock.now
			if i%3 == 0 {
				n = 1000 // small files say nothing of what large ones may
			}
			clock.now = clock.now.Add(10*time.Millisecond + time.Duration(float64(n)/float64(c.speed)*float64(time.Second)))
			p.step(t.Context(), n)
			if took := clock.now.Sub(began); took > atATime+100*time.Millisecond && n > leastAtOnce {
				t.Errorf("%+v: a step of %d bytes took %v", c, n, took)
			}
		}
		if p.most() != c.want {
			t.Errorf("%+v: steps of %d bytes in the end", c, p.most())
		}
		p.fit(time.Minute, 1<<20) // a machine that is slow for once
		if want := max(c.want/2, leastAtOnce); p.most() != want {
			t.Errorf("%+v: steps of %d bytes after one that took long, want %d", c, p.most(), want)
		}
	}
}
