package transport

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"
)

// bounds keeps what was asked for.
type bounds struct {
	asked  []uint32
	closed bool
	err    error
}

func (b *bounds) Write(p []byte) (int, error) {
	b.asked = append(b.asked, binary.NativeEndian.Uint32(p))
	return len(p), b.err
}

func (b *bounds) Close() error {
	b.closed = true
	return nil
}

func TestIdlePollingFollowsTheRate(t *testing.T) {
	var b bounds
	p := &idlePolling{device: &b}
	now, requests := time.Unix(0, 0), uint64(0)
	p.begin(now, requests)
	for _, c := range []struct {
		after time.Duration
		n     uint64
		on    bool
	}{
		{patience, 3, false}, // 6,000 a second
		{patience, 4, true},
		{patience, 1, true}, // too few, once
		{patience, 2, true}, // 4,000 a second go on
		{patience, 1, true},
		{patience, 0, false},
		{10 * patience, 39, false}, // the watch came late: it is the rate that counts
		{10 * patience, 40, true},
		{20 * patience, 0, true},
		{patience, 0, false},
		{patience, 0, false},
	} {
		now, requests = now.Add(c.after), requests+c.n
		if err := p.look(now, requests); err != nil || p.on != c.on {
			t.Fatalf("%d requests in %v: on %v, %v", c.n, c.after, p.on, err)
		}
	}
	if want := []uint32{noLatency, anyLatency, noLatency, anyLatency}; !slices.Equal(b.asked, want) {
		t.Errorf("asked for %d, want %d", b.asked, want)
	}
	var s Stats
	p.addTo(&s)
	if s.IdlePolls != 2 || s.IdleHalts != 2 || s.IdlePolled != 25*patience {
		t.Errorf("stats %+v", s)
	}
	p.begin(now.Add(time.Hour), requests) // after a rest what counts is what comes from then on
	if err := p.look(now.Add(time.Hour+patience), requests+4); err != nil || !p.on {
		t.Errorf("after a rest: on %v, %v", p.on, err)
	}
	if p.close(); !b.closed {
		t.Error("not closed")
	}
}

func TestIdlePollingRefused(t *testing.T) {
	refused := errors.New("refused")
	p := &idlePolling{device: &bounds{err: refused}}
	p.begin(time.Unix(0, 0), 0)
	if err := p.look(time.Unix(1, 0), 1e6); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
}

func TestIdleHaltNeverPolls(t *testing.T) {
	p, err := openIdle(IdleHalt)
	if err != nil || p != nil || p.mode() != IdleHalt {
		t.Fatalf("%v, %v", p, err)
	}
	p.begin(time.Now(), 0)
	if err := p.look(time.Now(), 1e6); err != nil {
		t.Error(err)
	}
	p.close()
}

func TestGiveWay(t *testing.T) {
	var g giveWay
	if !g.next() || !g.took(longYield-1) {
		t.Fatal("a short yield ends it")
	}
	for _, pause := range []int{64, 128, 256, 512, 1024, 2048, 4096, 8192, 8192} {
		if !g.next() || g.took(longYield) {
			t.Fatalf("goes on after a long yield; pause %d", g.pause)
		}
		for i := range pause {
			if g.next() {
				t.Fatalf("gives way after %d requests of %d", i, pause)
			}
		}
	}
	for range forgiven {
		if !g.next() {
			t.Fatal("a pause without a long yield")
		}
	}
	if g.took(longYield); g.skip != firstPause {
		t.Errorf("after %d good ones a pause of %d", forgiven, g.skip)
	}
}
