package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// MaxIdle is how many readers wait for the lead at most; the others end when they have nothing to do.
const MaxIdle = 4

// patience is how long the leader may take for one request before another reader takes over the lead.
const patience = 500 * time.Microsecond

// Options tune a Loop. The zero value is the default.
type Options struct {
	// MaxPoll is the longest time that the leader polls before it sleeps; 0 means 50 µs. Negative: never. Polling is off where the process has one
	// processor: it would keep the very program from running that is waited for.
	MaxPoll time.Duration
	Idle    Idle         // what idle processors do meanwhile
	Log     *slog.Logger // nil: silent
}

// Stats counts what a Loop did since it began.
type Stats struct {
	Requests  uint64 // taken from the device
	Polled    uint64 // requests that a polling leader caught before it slept
	Slept     uint64 // times that the leader slept
	Handovers uint64 // times that the lead was handed over before a long request
	Stolen    uint64 // times that the lead was taken from a reader that had been too long

	IdlePolls  uint64        // times that idle processors were asked to poll
	IdleHalts  uint64        // times that they were let go
	IdlePolled time.Duration // for how long they were to poll, in all
}

// Loop serves one FUSE connection over its device. Serve runs it; the notification methods are safe for concurrent use while it runs.
type Loop struct {
	fd    int
	proto *fuse.ProtocolServer
	size  int // of a reader's buffers, in bytes
	log   *slog.Logger

	lead     chan struct{} // holds the lead while nobody has it; capacity 1
	ended    chan struct{} // closed when the connection is over
	endOnce  sync.Once
	endErr   error // why it ended; written before ended is closed
	idle     atomic.Int32
	readers  sync.WaitGroup
	spare    sync.Pool // of *buffers, left by readers that ended
	active   requests
	lease    lease
	poll     pollWindow // used by the leader only
	giveWay  giveWay    // likewise
	idling   *idlePolling
	syncs    syncPolicy
	batches  WriteBacker // nil: the filesystem takes one write at a time
	panicked func(reason any) fuse.Status
	stats    struct{ requests, polled, slept, handovers, stolen atomic.Uint64 }
}

// NewLoop returns a Loop for the open FUSE device fd, which is mounted already; it takes ownership of fd. The options are go-fuse's: MaxWrite
// must be the max_read of the mount.
func NewLoop(fd int, filesystem fuse.RawFileSystem, mount *fuse.MountOptions, o Options) (*Loop, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up /dev/fuse: %w", err)
	}
	idling, err := openIdle(o.Idle)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	l := &Loop{
		fd:    fd,
		proto: fuse.NewProtocolServer(filesystem, mount),
		size:  mount.MaxWrite + headerRoom,
		log:   o.Log,
		lead:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		poll:  newPollWindow(o.MaxPoll, runtime.GOMAXPROCS(0)),

		idling: idling,
	}
	l.batches, _ = filesystem.(WriteBacker)
	l.panicked = mount.PanicHandler
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.lease.wake = make(chan struct{}, 1)
	return l, nil
}

// Serve implements Transport.
func (l *Loop) Serve() error {
	err := l.serve()
	if closeErr := unix.Close(l.fd); closeErr != nil {
		return errors.Join(err, fmt.Errorf("close /dev/fuse: %w", closeErr))
	}
	return err
}

// serve is Serve but for closing the device.
func (l *Loop) serve() error {
	l.readers.Add(2) // a reader and the watch, which make more
	go l.watch()
	go l.read()
	l.lead <- struct{}{}
	<-l.ended
	l.interruptAll()
	l.readers.Wait()
	return l.endErr
}

// Kind implements Transport.
func (l *Loop) Kind() Kind { return Device }

// Idle implements Transport.
func (l *Loop) Idle() Idle { return l.idling.mode() }

// Stats returns the counters.
func (l *Loop) Stats() Stats {
	s := Stats{
		Requests: l.stats.requests.Load(), Polled: l.stats.polled.Load(), Slept: l.stats.slept.Load(),
		Handovers: l.stats.handovers.Load(), Stolen: l.stats.stolen.Load(),
	}
	l.idling.addTo(&s)
	return s
}

// end marks the connection as over. err is nil for an unmount.
func (l *Loop) end(err error) {
	l.endOnce.Do(func() {
		l.endErr = err
		close(l.ended)
	})
}

// handOver lets another reader lead, and makes one if none waits.
func (l *Loop) handOver() {
	if l.idle.Load() == 0 {
		l.readers.Add(1)
		go l.read()
	}
	l.lead <- struct{}{}
}
