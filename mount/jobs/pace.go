package jobs

import (
	"context"
	"time"
)

// Clock is what time it is, and how it passes.
type Clock interface {
	Now() time.Time
	// Sleep returns after d, or when ctx is done.
	Sleep(ctx context.Context, d time.Duration)
}

// realClock is the machine's.
type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pace holds work to a rate and a share of the time.
type pace struct {
	clock Clock

	rate uint64 // bytes per second; 0: any
	cpu  uint8  // percent; 0: all

	from time.Time // that bytes are counted from
	sum  uint64    // bytes since
	last time.Time // when the present step began
	owed time.Duration
}

// smallSleep is the least that is slept at a time.
const smallSleep = 5 * time.Millisecond

func newPace(clock Clock, rate uint64, cpu uint8) pace {
	now := clock.Now()
	return pace{clock: clock, rate: rate, cpu: cpu, from: now, last: now}
}

// begin says that work begins now.
func (p *pace) begin() { p.last = p.clock.Now() }

// step comes after n bytes of work, and returns when the next may begin, or ctx is done.
func (p *pace) step(ctx context.Context, n int) {
	p.owe(p.clock.Now(), n)
	if p.owed >= smallSleep {
		p.clock.Sleep(ctx, p.owed)
		p.owed = 0
	}
	p.last = p.clock.Now()
}

// owe works out how long to sleep.
func (p *pace) owe(now time.Time, n int) {
	p.sum += uint64(n)
	if p.cpu > 0 && p.cpu < 100 {
		p.owed += now.Sub(p.last) * time.Duration(100-p.cpu) / time.Duration(p.cpu)
	}
	if p.rate == 0 {
		return
	}
	due := p.from.Add(time.Duration(float64(p.sum) / float64(p.rate) * float64(time.Second)))
	switch {
	case due.After(now):
		p.owed = max(p.owed, due.Sub(now))
	case now.Sub(due) > time.Second: // what was not used is not made up for
		p.from, p.sum = now, 0
	}
}
