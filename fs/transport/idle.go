package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Idle names what idle processors of the machine do while requests follow each other quickly.
type Idle string

const (
	IdleAuto Idle = ""     // IdlePoll where it is known to pay and the process may ask for it, else IdleHalt
	IdlePoll Idle = "poll" // wait for work without halting, so that waking one costs no interrupt
	IdleHalt Idle = "halt" // whatever the machine has them do
)

// ParseIdle reads the name of one: auto (or nothing), poll, halt.
func ParseIdle(s string) (Idle, error) {
	switch i := Idle(s); {
	case s == "auto":
		return IdleAuto, nil
	case i == IdleAuto || i == IdlePoll || i == IdleHalt:
		return i, nil
	}
	return IdleAuto, fmt.Errorf("idle %q: there are auto, poll and halt", s)
}

const (
	// latencyDevice takes, from each process that has it open, how long processors may take to wake, in microseconds, for as long as it is open. Only root can open it, unless the machine is told otherwise.
	latencyDevice = "/dev/cpu_dma_latency"

	noLatency  = 0
	anyLatency = 2_000_000_000

	quickRate = 8000 // requests a second from which on idle processors poll; below half of that, for slowLooks looks, they halt again
	slowLooks = 2

	autoProcessors = 4 // of a machine at most, for IdleAuto: one of them is waited for, and all idle ones poll
)

// idlePolling has the machine's idle processors poll while requests come quickly. A nil one never does. Its methods are the watch's, but for stats.
type idlePolling struct {
	device   io.WriteCloser
	on       bool
	slow     int       // looks in a row that found less than half of quickRate
	at       time.Time // of the last look
	requests uint64    // at the last look
	polls    atomic.Uint64
	halts    atomic.Uint64
	spent    atomic.Int64 // nanoseconds
}

// openIdle returns nil for IdleHalt, and for IdleAuto where it is not to be.
func openIdle(mode Idle) (*idlePolling, error) {
	if mode == IdleHalt || mode == IdleAuto && !pollingPays() {
		return nil, nil
	}
	device, err := os.OpenFile(latencyDevice, os.O_WRONLY, 0)
	switch {
	case err == nil:
		return &idlePolling{device: device}, nil
	case mode == IdleAuto:
		return nil, nil
	}
	return nil, fmt.Errorf("idle=poll: %w", err)
}

// pollingPays tells whether this is a machine on which polling was measured to pay: a small virtual one, where waking a processor that has halted is the host's work.
func pollingPays() bool {
	const cpu = "/sys/devices/system/cpu/"
	driver, _ := os.ReadFile(cpu + "cpuidle/current_driver")
	siblings, _ := os.ReadFile(cpu + "smt/active") // what polls there takes from its sibling
	n, err := highestProcessor(cpu + "online")
	return strings.TrimSpace(string(driver)) == "haltpoll" && strings.TrimSpace(string(siblings)) != "1" && err == nil && n > 0 && n < autoProcessors
}

// highestProcessor reads a list of ranges of processors, of which the last number is the highest.
func highestProcessor(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	list := strings.TrimSpace(string(b))
	n, err := strconv.Atoi(list[strings.LastIndexAny(list, "-,")+1:])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q", path, list)
	}
	return n, nil
}

func (p *idlePolling) ask(microseconds int32) error {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(microseconds))
	_, err := p.device.Write(b[:])
	return err
}

// begin is called when the watch begins to look.
func (p *idlePolling) begin(now time.Time, requests uint64) {
	if p != nil {
		p.at, p.requests, p.slow = now, requests, 0
	}
}

// look learns how many requests there were so far, and has idle processors poll or halt.
func (p *idlePolling) look(now time.Time, requests uint64) error {
	if p == nil {
		return nil
	}
	took, n := now.Sub(p.at), requests-p.requests
	p.at, p.requests = now, requests
	rate := float64(n) / max(took, time.Microsecond).Seconds()
	if p.on {
		p.spent.Add(int64(took))
	}
	if rate < quickRate/2 {
		p.slow++
	} else {
		p.slow = 0
	}
	switch {
	case !p.on && rate >= quickRate:
		p.on = true
		p.polls.Add(1)
		return p.ask(noLatency)
	case p.on && p.slow >= slowLooks:
		p.on = false
		p.halts.Add(1)
		return p.ask(anyLatency)
	}
	return nil
}

// close lets processors halt.
func (p *idlePolling) close() {
	if p != nil {
		p.device.Close()
	}
}

// mode is IdlePoll or IdleHalt.
func (p *idlePolling) mode() Idle {
	if p == nil {
		return IdleHalt
	}
	return IdlePoll
}

// addTo fills in what it did.
func (p *idlePolling) addTo(s *Stats) {
	if p != nil {
		s.IdlePolls, s.IdleHalts, s.IdlePolled = p.polls.Load(), p.halts.Load(), time.Duration(p.spent.Load())
	}
}
