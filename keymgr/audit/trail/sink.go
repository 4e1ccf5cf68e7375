package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// Target is another place for events.
type Target interface {
	// Send delivers lines, all or none as far as it knows; it ends with ctx. Lines are only read, and not after it has returned.
	Send(ctx context.Context, lines [][]byte) error
	Close() error
}

// Sink is a target and what becomes of operations while it does not take events. One that is Required holds them up, and fails them within the log's limit; another one loses
// events, and the log says how many.
type Sink struct {
	Name     string
	Required bool
	Target   Target
}

const (
	sinkBacklog = 4 << 20         // bytes that wait for a sink
	sinkBatch   = 512             // events at once
	sinkTry     = 2 * time.Second // for one attempt
	sinkPause   = 200 * time.Millisecond
)

// sinkQueue feeds a sink from a goroutine of its own.
type sinkQueue struct {
	sink Sink
	log  *slog.Logger
	wake chan struct{}
	ends chan struct{}
	done chan struct{}

	mu struct {
		sync.Mutex
		lines  [][]byte
		bytes  int
		next   int64 // number of the record behind the queued ones
		sent   int64 // records up to here are delivered or lost
		change chan struct{}
		lost   uint64
		closed bool
	}
}

func newSinkQueue(s Sink, log *slog.Logger) *sinkQueue {
	q := &sinkQueue{sink: s, log: log, wake: make(chan struct{}, 1), ends: make(chan struct{}), done: make(chan struct{})}
	q.mu.change = make(chan struct{})
	go q.run()
	return q
}

// offer queues record at. What does not fit into the queue of a sink that is not required is lost; a required one holds up its callers before.
func (q *sinkQueue) offer(line []byte, at int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.next == 0 {
		q.mu.sent = at
	}
	q.mu.next = at + 1
	if q.mu.bytes+len(line) > sinkBacklog {
		q.lose(1)
	} else {
		q.mu.lines = append(q.mu.lines, bytes.Clone(line))
		q.mu.bytes += len(line)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// lose counts events that the sink does not get. The caller holds the lock.
func (q *sinkQueue) lose(n uint64) {
	if q.mu.lost == 0 {
		q.log.Warn("an audit sink loses events", "sink", q.sink.Name)
	}
	q.mu.lost += n
}

// takeLost gives how many events were lost since the last time.
func (q *sinkQueue) takeLost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.mu.lost
	q.mu.lost = 0
	return n
}

// await waits until record at is delivered, if the sink is required.
func (q *sinkQueue) await(ctx, limited context.Context, at int64) error {
	if !q.sink.Required {
		return nil
	}
	for {
		q.mu.Lock()
		sent, change, closed := q.mu.sent, q.mu.change, q.mu.closed
		q.mu.Unlock()
		if sent > at {
			return nil
		}
		if closed {
			return audit.ErrClosed
		}
		if err := await(ctx, limited, change); err != nil {
			return fmt.Errorf("sink %s: %w", q.sink.Name, err)
		}
	}
}

func (q *sinkQueue) run() {
	defer close(q.done)
	for {
		batch, upTo := q.take()
		if len(batch) == 0 {
			select {
			case <-q.wake:
				continue
			case <-q.ends:
				return
			}
		}
		if !q.deliver(batch) {
			q.mu.Lock()
			q.lose(uint64(len(batch)))
			q.mu.Unlock()
		}
		q.mu.Lock()
		q.mu.sent = upTo
		close(q.mu.change)
		q.mu.change = make(chan struct{})
		q.mu.Unlock()
	}
}

func (q *sinkQueue) take() (batch [][]byte, upTo int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.mu.lines), sinkBatch)
	batch = q.mu.lines[:n:n]
	q.mu.lines = q.mu.lines[n:]
	for _, line := range batch {
		q.mu.bytes -= len(line)
	}
	return batch, q.mu.next - int64(len(q.mu.lines))
}

// deliver sends a batch: a required sink's until it is taken or the log is closed, another's twice. While a required sink does not take events, operations fail, but their
// events are in the log and go to the sink when it takes them again.
func (q *sinkQueue) deliver(batch [][]byte) bool {
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), sinkTry)
		err := q.sink.Target.Send(ctx, batch)
		cancel()
		if err == nil {
			return true
		}
		if try == 0 {
			q.log.Warn("an audit sink does not take events", "sink", q.sink.Name, "error", err)
		}
		if try > 0 && !q.sink.Required {
			return false
		}
		select {
		case <-time.After(sinkPause):
		case <-q.ends:
			return false
		}
	}
}

// close ends the sink; what is queued is sent, if that does not take longer than ctx.
func (q *sinkQueue) close(ctx context.Context) error {
	q.mu.Lock()
	q.mu.closed = true
	q.mu.Unlock()
	close(q.ends)
	ctx, cancel := context.WithTimeout(ctx, sinkTry+time.Second)
	defer cancel()
	select {
	case <-q.done:
		return q.sink.Target.Close()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("sink %s: %w", q.sink.Name, audit.ErrBlocked), q.sink.Target.Close())
	}
}
