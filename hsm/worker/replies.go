package worker

import (
	"net"
	"sync"
	"time"
)

const (
	quickCall = 100 * time.Microsecond // a use of a key that took less: the next reply comes at once, so that one write sends both
	maxHold   = time.Millisecond       // for so long a reply waits for the next one that does not come
	maxHeld   = 16 << 10               // bytes
)

// replies sends replies, several in one write where they come fast.
type replies struct {
	conn net.Conn

	mu    sync.Mutex
	out   []byte // guarded by mu; wiped when it is sent
	timer *time.Timer
}

// send sends a reply, and those that were held.
func (r *replies) send(rep *reply, secret []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.out, err = appendFrame(r.out, rep, secret); err != nil {
		return err
	}
	return r.flush()
}

// hold keeps a reply for the next one to be sent with it, but not for long.
func (r *replies) hold(rep *reply, secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := len(r.out) == 0
	var err error
	if r.out, err = appendFrame(r.out, rep, secret); err != nil || len(r.out) > maxHeld {
		_ = r.flush()
		return
	}
	if !first {
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(maxHold, r.late)
		return
	}
	r.timer.Reset(maxHold)
}

// late sends what was held: the call that should have taken it along takes long.
func (r *replies) late() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.flush()
}

// flush sends what there is. The caller holds mu.
func (r *replies) flush() error {
	if len(r.out) == 0 {
		return nil
	}
	_, err := r.conn.Write(r.out)
	clear(r.out)
	if r.out = r.out[:0]; cap(r.out) > 2*maxHeld {
		r.out = nil
	}
	return err
}
