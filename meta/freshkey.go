package meta

import (
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// Bounds of freshKeys.
const (
	freshAtMost = 64
	freshFor    = 10 * time.Second
)

// freshKeys hands a key that a CMK has just made to the first who opens its blob, so that who makes a file and writes to it asks the key manager once. Safe for concurrent use.
type freshKeys struct {
	mu   sync.Mutex
	keys map[freshKey]*blockcrypt.Key // guarded by mu
}

// freshKey is a blob in its place.
type freshKey struct {
	at   blockcrypt.Place
	blob string
}

// put keeps a copy of a key for a moment. What does not fit is asked for again.
func (f *freshKeys) put(of freshKey, key *blockcrypt.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.keys) >= freshAtMost || f.keys[of] != nil {
		return
	}
	if f.keys == nil {
		f.keys = map[freshKey]*blockcrypt.Key{}
	}
	own := *key
	f.keys[of] = &own
	time.AfterFunc(freshFor, func() {
		if key := f.take(of); key != nil {
			key.Wipe()
		}
	})
}

// take returns the key of a blob in its place, once; nil if there is none. The caller wipes it.
func (f *freshKeys) take(of freshKey) *blockcrypt.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := f.keys[of]
	delete(f.keys, of)
	return key
}
