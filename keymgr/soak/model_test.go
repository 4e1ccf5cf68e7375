package soak

import (
	"slices"
	"sync"

	"github.com/kmsfs/kmsfs/keymgr"
)

// Operations that clients use, as bits.
const (
	mayEncrypt = 1 << iota
	mayDecrypt
	mayGenerate
	mayDescribe
	mayAll = 1<<iota - 1
)

var operationNames = map[uint8]string{mayEncrypt: "Encrypt", mayDecrypt: "Decrypt", mayGenerate: "GenerateDataKey", mayDescribe: "DescribeKey"}

// names lists the operations of a set.
func names(set uint8) (out []string) {
	for bit, name := range operationNames {
		if set&bit != 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

const users = 4

// grant is a grant as the model knows it. id is "" while it is not known whether there is one.
type grant struct {
	name, id string
	user     int
	set      uint8
}

// facts are all that decides about a key. Never changed once shared.
type facts struct {
	state    string
	versions int
	allow    [users]uint8 // by the key's policy
	deny     [users]bool  // by the key's policy, everything
	grants   []grant
}

// expect is the code that an operation of a user is answered by; "": it succeeds.
func (f *facts) expect(user int, operation uint8) string {
	may := f.allow[user]
	for _, g := range f.grants {
		if g.user == user {
			may |= g.set
		}
	}
	switch {
	case f.deny[user] || may&operation == 0:
		return "AccessDeniedException"
	case operation == mayDescribe || f.state == keymgr.StateEnabled:
		return ""
	case f.state == keymgr.StateDisabled:
		return "DisabledException"
	}
	return "KMSInvalidStateException"
}

// history is what a key may have been: every entry was possible from the moment it was added until it was settled.
type history struct {
	mu      sync.Mutex
	all     []facts
	settled int // those before it are past
}

// begin says what is about to become of the key. Until settle, it may be either.
func (h *history) begin(next facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, next)
}

// settle says what has become of the key.
func (h *history) settle(is facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, is)
	h.settled = len(h.all) - 1
}

// now is the place in the history that a call which begins now has to look from.
func (h *history) now() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.settled
}

// since lists what the key may have been from a place on.
func (h *history) since(from int) []facts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all[from:])
}

// last is what the key is; only for who changes it.
func (h *history) last() facts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[len(h.all)-1]
}
