package server

import (
	"encoding/hex"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
)

// replays remembers signatures for as long as they are good by the time in them, and no longer: 5 minutes for a client whose clock is right. Of a signature, which whoever cannot sign
// does not choose, half is kept. They lie in a map for each minute of signing time, which is given up as a whole.
type replays struct {
	now   func() time.Time
	limit int // signatures remembered

	mu struct {
		sync.Mutex
		minutes map[int64]*signedMinute // by minutes since 1970
		count   int
	}
}

// signedMinute are the signatures of one minute.
type signedMinute struct {
	began time.Time           // when its first one was seen
	seen  map[[16]byte]uint32 // when each was seen first, in milliseconds since then
}

// signatureSize is what a signature takes in memory at most, in bytes: 20 of entry, in a map that has just grown to twice its size.
const signatureSize = 48

// DefaultReplayMemory is enough for 4,600 signed requests a second, in bytes.
const DefaultReplayMemory = 64 << 20

// check refuses a signature that was seen more than sigRepeat ago; at is the time in the request, within sigSkew of now. Errors: keymgr.ErrInvalidSignature; ErrThrottling if there is no room to remember it.
func (r *replays) check(hexSignature string, at time.Time) error {
	var id [16]byte
	if _, err := hex.Decode(id[:], []byte(hexSignature[:2*len(id)])); err != nil {
		return fail(keymgr.ErrInvalidSignature, "Signature must be hexadecimal digits.")
	}
	now, minute := r.now(), at.Unix()/60
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mu.minutes[minute]
	if m == nil { // at most 12 times a minute
		r.forget(now)
		m = &signedMinute{began: now, seen: map[[16]byte]uint32{}}
	}
	first, ok := m.seen[id]
	switch {
	case ok && now.Sub(m.began)-time.Duration(first)*time.Millisecond > sigRepeat:
		return fail(keymgr.ErrInvalidSignature, "Signature was used already: a request cannot be sent again.")
	case ok:
		return nil
	}
	if r.mu.count >= r.limit {
		r.forget(now)
	}
	if r.mu.count >= r.limit {
		return fail(keymgr.ErrThrottling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
	}
	if r.mu.minutes == nil {
		r.mu.minutes = map[int64]*signedMinute{}
	}
	r.mu.minutes[minute] = m
	m.seen[id] = uint32(max(0, now.Sub(m.began).Milliseconds()))
	r.mu.count++
	return nil
}

// forget gives up the minutes whose signatures are good no more.
func (r *replays) forget(now time.Time) {
	for minute, m := range r.mu.minutes {
		if time.Unix((minute+1)*60, 0).Add(sigSkew).Before(now) {
			r.mu.count -= len(m.seen)
			delete(r.mu.minutes, minute)
		}
	}
}
