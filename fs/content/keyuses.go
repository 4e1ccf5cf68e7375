package content

import "sync"

// epochReserve is how many uses must be left of a key for an operation to begin: more than any takes.
const epochReserve = 2 * maxBlocks

// keyUses counts the uses of a block key. Uses are reserved in the inode's row ahead of time, so that a crash cannot make them fewer: what is
// reserved counts as used. Only the first transaction after the reservation ran out may use the key before it is committed. Safe for concurrent use.
type keyUses struct {
	mu             sync.Mutex
	epoch          uint32 // guarded by mu; of the key
	used, reserved uint64 // guarded by mu
	granted        uint64 // guarded by mu; what a committed row says is reserved
	session        uint64 // guarded by mu; uses since the file was opened, or the key made
}

// Steps of reservation: small for a file that is opened for a few blocks, so that opening it often does not use up the key.
const (
	minReservation = 1 << 10
	maxReservation = 1 << 16
)

// start begins to count the uses of an epoch's key, of which the inode's row says that it was used so often.
func (u *keyUses) start(epoch uint32, used uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.epoch, u.used, u.reserved, u.granted, u.session = epoch, used, used, used, 0
}

func (u *keyUses) left(limit uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.used >= limit {
		return 0
	}
	return limit - u.used
}

// take counts n uses and extends the reservation if needed.
func (u *keyUses) take(n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used += n
	u.session += n
	if u.used > u.reserved {
		u.reserved = u.used + u.step()
	}
}

// takeGranted takes n uses of an epoch's key if a committed row knows of them, and they leave enough of the limit for an operation. When half of what was reserved last
// is used, the next transaction reserves more.
func (u *keyUses) takeGranted(epoch uint32, n, limit uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch != u.epoch || u.used+n > u.granted || u.used+n+epochReserve > limit {
		return false
	}
	u.used += n
	u.session += n
	if step := u.step(); u.reserved-u.used < step/2 {
		u.reserved = u.used + step
	}
	return true
}

func (u *keyUses) step() uint64 { return min(max(2*u.session, minReservation), maxReservation) }

// reservation is how many uses the inode's row shall say that there were.
func (u *keyUses) reservation() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reserved
}

// grant notes that a committed row says that the epoch's key was used so often.
func (u *keyUses) grant(epoch uint32, reserved uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch == u.epoch {
		u.granted = max(u.granted, reserved)
	}
}
