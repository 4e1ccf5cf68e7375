package transport

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxWorkers bounds the threads of one queue, and with them the requests of one processor that are under way. More wait in the kernel.
const maxWorkers = 256

// reserve is how many idle workers a queue should have: the kernel hands a request that found none to a worker that answers another one, not to one that is new.
const reserve = 2

// maxBackground bounds the asynchronous requests (read-ahead, write-back) that the kernel has under way; each processor may have one beyond it. Each takes a thread, and many
// threads of one processor that write to one file mostly wait for its lock: when that has been passed from one to the next for long enough, each write is two task switches.
const maxBackground = 4

// Waiting is by how many of Go's processors (GOMAXPROCS) a process should have more that is served by a Ring. A thread that waits in the kernel for its next request keeps the
// one that it had until the runtime's monitor takes it away, up to 10 ms later; one that comes back with a request meanwhile finds none, and waits for that, too.
const Waiting = maxBackground + reserve

// keepPayload is how many workers of a queue keep the pages of a large request.
const keepPayload = maxBackground

// queue serves the requests that are made on one processor. The kernel has one for each possible processor.
type queue struct {
	ring    *Ring
	cpu     int
	idle    atomic.Int32 // workers that wait for a request, and those that will soon: the reserve
	workers atomic.Int32
	starved atomic.Bool // requests may wait though workers are idle: see nudge
}

// worker is a thread on the queue's processor, with a ring of its own that holds one entry: so a request that takes long keeps nobody waiting, as
// long as another worker is idle.
type worker struct {
	queue  *queue
	ring   *ring
	entry  *entry
	number int32
	away   bool // its thread may run on other processors than the queue's
}

// grow adds a worker and tells started when it has registered its entry, or why it could not.
func (q *queue) grow(started func(error)) {
	number := q.workers.Add(1)
	if number > maxWorkers {
		q.workers.Add(-1)
		return
	}
	q.idle.Add(1)
	q.ring.workers.Add(1)
	go func() {
		defer q.ring.workers.Done()
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		defer q.workers.Add(-1)
		w, err := q.newWorker(number)
		if err != nil {
			q.idle.Add(-1)
			started(err)
			return
		}
		started(nil)
		defer w.close()
		if err := w.run(); err != nil {
			q.ring.loop.log.Error("a thread for requests ended", "processor", q.cpu, "cause", err)
		}
	}()
}

// taken is called for each request that a worker has got. It keeps the reserve of idle ones.
func (q *queue) taken() {
	if q.idle.Add(-1) >= reserve {
		return
	}
	q.grow(func(err error) {
		switch {
		case err == nil:
			go q.nudge()
		case !isOver(err):
			q.ring.loop.log.Error("no further thread for requests", "processor", q.cpu, "cause", err)
		}
	})
}

// nudge has the kernel make a request on the queue's processor that nobody waits for. A request that came while no worker was idle waits until a worker answers another
// one and takes it, even if there are idle ones now (fuse_uring_do_register looks at none). Whoever takes one that waited nudges again: there may be more. Not by a request of our own: a process that is killed
// while it waits for itself never ends. Where nothing can be asked for, the request goes on waiting for the next answer.
func (q *queue) nudge() {
	runtime.LockOSThread() // for good
	q.pin()
	q.starved.Store(true)
	q.ring.loop.retrieveNothing(q.ring.nudges.Add(1))
}

// newWorker makes a worker of the calling thread and registers its entry.
func (q *queue) newWorker(number int32) (*worker, error) {
	w := &worker{queue: q, number: number}
	q.pin()
	var err error
	if w.ring, err = newRing(); err != nil {
		return nil, err
	}
	if w.entry, err = newEntry(q.ring.loop.size); err != nil {
		w.ring.close()
		return nil, err
	}
	w.ring.command(q.ring.loop.fd, cmdRegister, w.entry.vec, 0, uint16(q.cpu))
	result, done, err := w.ring.enter(false)
	if err == nil && done && result < 0 {
		err = fmt.Errorf("register with the kernel: %w", unix.Errno(-result))
	}
	if err != nil {
		w.close()
		return nil, err
	}
	if done {
		w.serve()
	}
	return w, nil
}

// pin binds the calling thread to the queue's processor. One that is offline has no requests either.
func (q *queue) pin() {
	var set unix.CPUSet
	set.Set(q.cpu)
	_ = unix.SchedSetaffinity(0, &set)
}

func (w *worker) close() {
	w.ring.close()
	w.entry.free()
}

// run takes requests and answers them until the connection is over.
func (w *worker) run() error {
	for {
		result, err := w.next()
		switch {
		case err != nil:
			return err
		case result == 0:
			w.serve()
		case isOver(unix.Errno(-result)):
			return nil
		default:
			return fmt.Errorf("fetch a request: %w", unix.Errno(-result))
		}
	}
}

// isOver tells whether an error is the end of the connection.
func isOver(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// next answers the request before, if there is one, and waits for the next.
func (w *worker) next() (int32, error) {
	if q := w.queue; q.starved.Load() {
		result, done, err := w.ring.enter(false)
		if err != nil || done {
			go q.nudge()
			return result, err
		}
		q.starved.Store(false)
	}
	result, _, err := w.ring.enter(true)
	return result, err
}

// serve handles the request in the entry and fills in the submission that answers it and fetches the next.
func (w *worker) serve() {
	q, e := w.queue, w.entry
	q.taken()
	commit := e.commit()
	if e.opcode() == opNotifyReply { // a nudge
		e.place()
		e.answer(0, 0)
	} else {
		w.handle()
	}
	w.ring.command(q.ring.loop.fd, cmdCommitAndFetch, nil, commit, uint16(q.cpu))
	q.idle.Add(1)
}

// place lets the thread leave the queue's processor for a request that takes long to compute: else it would compete with whoever goes on there. It stays away for as long
// as such requests follow each other.
func (w *worker) place(away bool) {
	if away == w.away {
		return
	}
	w.away = away
	if away {
		_ = unix.SchedSetaffinity(0, &w.queue.ring.anywhere)
	} else {
		w.queue.pin()
	}
}

// computes tells whether a request keeps a processor busy for long, not the disk alone.
func computes(opcode uint32, arg []byte, payload int) bool {
	return isLong(opcode, arg, payload) && !isSync(opcode)
}

// handle has the request in the entry answered there.
func (w *worker) handle() {
	e, l := w.entry, w.queue.ring.loop
	l.stats.requests.Add(1)
	if l.idling != nil {
		l.lease.rouse()
	}
	large := e.payloadSize() >= longPayload
	w.place(computes(e.opcode(), e.arg(), e.payloadSize()))
	in, out := e.place()
	n, status := l.request(in, out)
	if large && w.number > keepPayload {
		e.forget()
	}
	e.answer(n, int32(status))
}
