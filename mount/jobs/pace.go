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

	atOnce int // bytes of a step that a share of the time allows
}

// atATime is how long a step may take, with the sleep that is owed for it: so long a job is seen to stand still, and may be deaf to what concerns it.
const atATime = time.Second

// Bounds of a step for a share of the time, in bytes. A smaller one mostly waits for its flush, so it would not take less time.
const (
	leastAtOnce = 1 << 20
	mostAtOnce  = 64 << 20
)

// smallSleep is the least that is slept at a time.
const smallSleep = 5 * time.Millisecond

func newPace(clock Clock, rate uint64, cpu uint8) pace {
	now := clock.Now()
	return pace{clock: clock, rate: rate, cpu: cpu, from: now, last: now, atOnce: leastAtOnce}
}

// most returns how many bytes the next step may have; 0: any.
func (p *pace) most() int {
	most := 0
	if p.shared() {
		most = p.atOnce
	}
	if n := p.rate * uint64(atATime/time.Second); n > 0 && (most == 0 || n < uint64(most)) {
		most = int(min(n, mostAtOnce))
	}
	return most
}

// shared tells whether only a share of the time may be worked.
func (p *pace) shared() bool { return p.cpu > 0 && p.cpu < 100 }

// fit makes the next step as large as the share of the time allows, from how long one of n bytes took.
func (p *pace) fit(took time.Duration, n int) {
	may := atATime * time.Duration(p.cpu) / 100
	switch {
	case !p.shared() || n == 0:
	case took > may:
		p.atOnce = max(p.atOnce/2, leastAtOnce)
	case 2*took <= may && n > p.atOnce/2:
		p.atOnce = min(2*p.atOnce, mostAtOnce)
	}
}

// begin says that work begins now.
func (p *pace) begin() { p.last = p.clock.Now() }

// step comes after n bytes of work, and returns when the next may begin, or ctx is done.
func (p *pace) step(ctx context.Context, n int) {
	now := p.clock.Now()
	p.fit(now.Sub(p.last), n)
	p.owe(now, n)
	if p.owed >= smallSleep {
		p.clock.Sleep(ctx, p.owed)
		p.owed = 0
	}
	p.last = p.clock.Now()
}

// owe works out how long to sleep.
func (p *pace) owe(now time.Time, n int) {
	p.sum += uint64(n)
	if p.shared() {
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
