package keyring

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// stuckKey is a master key whose token does not answer.
const stuckKey = "cmk-stuck"

// halfStuck lets calls under stuckKey wait for the end of their context, and counts them.
type halfStuck struct {
	*manager
	entered chan struct{}

	mu         sync.Mutex
	busy, most int
}

func (h *halfStuck) Decrypt(ctx context.Context, by keymgr.Caller, in keymgr.DecryptInput) (keymgr.DecryptOutput, error) {
	if in.KeyID != stuckKey {
		return h.manager.Decrypt(ctx, by, in)
	}
	h.count(1)
	defer h.count(-1)
	h.entered <- struct{}{}
	<-ctx.Done()
	return keymgr.DecryptOutput{}, ctx.Err()
}

func (h *halfStuck) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy += n
	h.most = max(h.most, h.busy)
}

// as is a request of a user.
func as(uid uint32) context.Context { return context.WithValue(ctx, keymgr.OnBehalf{}, uid) }

// TestUsersDoNotWaitForEachOther: one user opens 30 zones of a token that is stuck. Cached keys and other tokens' keys go on for all others, and who
// opens one of the stuck zones too is told so in bounded time, though it stands far behind in the first user's line.
func TestUsersDoNotWaitForEachOther(t *testing.T) {
	h := &halfStuck{manager: newManager(t), entered: make(chan struct{}, 100)}
	volume, err := blockcrypt.NewVolumeID()
	must(t, err)
	root, err := NewRootZone(ctx, h, keymgr.Caller{}, "cmk-1", volume)
	must(t, err)
	const other = 2
	made, err := h.GenerateDataKey(ctx, keymgr.Caller{}, keymgr.GenerateDataKeyInput{KeyID: "cmk-2", Bytes: blockcrypt.KeySize, Context: meta.ZoneContext(volume, other, 1, "name")})
	must(t, err)
	key, err := blockcrypt.KeyFromBytes(made.Plaintext)
	must(t, err)
	second, err := meta.NewZone(volume, other, 2, key)
	must(t, err)
	second.Wraps = []meta.ZoneWrap{{KeyID: "cmk-2", Blob: made.Blob}}
	k := New(Config{
		Volume: volume, Keys: h, Timeout: 2 * time.Second,
		Zone: func(_ context.Context, id meta.ZoneID) (*meta.Zone, error) {
			switch id {
			case meta.RootZone:
				return root, nil
			case other:
				return second, nil
			}
			return &meta.Zone{ID: id, Dir: 3, Wraps: []meta.ZoneWrap{{KeyID: stuckKey, Blob: []byte("blob")}}}, nil
		},
		Place: func(context.Context, *meta.Zone) (meta.Ino, string, error) { return 1, "name", nil },
	})
	t.Cleanup(k.Close)
	_, err = k.Zone(as(1), meta.RootZone)
	must(t, err)

	var greedy sync.WaitGroup
	for i := range 30 {
		greedy.Add(1)
		go func() {
			defer greedy.Done()
			if _, err := k.Zone(as(1000), meta.ZoneID(100+i)); !errors.Is(err, meta.ErrKeyUnavailable) {
				t.Errorf("zone %d: %v", 100+i, err)
			}
		}()
	}
	for range maxUserCall {
		<-h.entered
	}
	_, err = k.Zone(as(2000), meta.RootZone) // cached
	must(t, err)
	_, err = k.Zone(as(2000), other) // of another token
	must(t, err)
	third := make(chan error, 1)
	go func() { // of the stuck token: it has a turn of its own
		_, err := k.Zone(as(3000), 129)
		third <- err
	}()
	<-h.entered
	wantErr(t, <-third, meta.ErrKeyUnavailable)
	greedy.Wait()
	if h.most > maxUserCall+1 {
		t.Errorf("%d calls at once for two users", h.most)
	}
}
