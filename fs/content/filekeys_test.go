package content

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
)

// fileKeys is a meta.FileKeys that counts what it opens, and may fail.
type fileKeys struct {
	sealer *blockcrypt.Sealer
	ttl    time.Duration
	err    error
	opened atomic.Int64
}

func (f *fileKeys) Make(_ context.Context, at blockcrypt.Place) (*blockcrypt.Key, string, error) {
	key, err := blockcrypt.NewKey()
	if err != nil || f.err != nil {
		return nil, "", f.err
	}
	blob, err := f.sealer.Wrap(key, at.AAD())
	return key, string(blob[:]), err
}

func (f *fileKeys) Open(_ context.Context, at blockcrypt.Place, blob string) (*blockcrypt.Key, error) {
	f.opened.Add(1)
	if f.err != nil {
		return nil, f.err
	}
	return f.sealer.Unwrap([]byte(blob), at.AAD())
}

func (f *fileKeys) Move(context.Context, blockcrypt.Place, blockcrypt.Place, string) (string, error) {
	return "", meta.ErrInvalid
}

func (f *fileKeys) TTL() time.Duration { return f.ttl }

// TestFileKeys: the key of a file that a CMK has wrapped itself is asked for once in its time, at the open; not at all where it was just made; and anew when its time is over,
// though the zone's keys are still valid.
func TestFileKeys(t *testing.T) {
	r := newRig(t, rigOptions{})
	zk, err := r.vol.Keyring.Zone(ctx, meta.RootZone)
	must(t, err)
	sealer, err := blockcrypt.NewSealer(newTestKey(t))
	must(t, err)
	keys, own := &fileKeys{sealer: sealer, ttl: time.Hour}, *zk
	own.Files = keys
	r.vol.Keyring.Add(meta.RootZone, &own)
	opened := func(what string, want int64) {
		t.Helper()
		if n := keys.opened.Swap(0); n != want {
			t.Errorf("%s: %d keys opened, want %d", what, n, want)
		}
	}
	f := r.file()
	mustWrite(t, f, pattern(10000, 1), 0)
	opened("a new file", 0)
	r.eng.ciphers.removeIf(func(*cipherEntry) bool { return true })
	must(t, f.Warm(ctx))
	opened("the first open", 1)
	for range 3 {
		must(t, f.Warm(ctx))
		if got := mustRead(t, f, 0, 10000); !bytes.Equal(got, pattern(10000, 1)) {
			t.Fatal("content differs")
		}
	}
	opened("in its time", 0)

	epoch, err := r.eng.NewEpoch(ctx, f.Ino())
	must(t, err)
	must(t, r.eng.Reencrypt(ctx, f.Ino(), epoch, nil, func(int) error { return nil }))
	opened("re-encryption of a file that is in use", 0)

	r.eng.ciphers.removeIf(func(*cipherEntry) bool { return true })
	keys.ttl = -time.Second
	must(t, f.Warm(ctx))
	if got := mustRead(t, f, 0, 10000); !bytes.Equal(got, pattern(10000, 1)) {
		t.Fatal("content differs")
	}
	opened("when its time is over at once", 2)
	r.eng.dropInvalidKeys()
	if r.eng.ciphers.len() != 0 {
		t.Error("keys are kept when their time is over")
	}
	keys.err = meta.ErrKeyUnavailable
	wantErr(t, f.Warm(ctx), meta.ErrKeyUnavailable)
	_, err = f.ReadAt(ctx, make([]byte, 10), 0)
	wantErr(t, err, meta.ErrKeyUnavailable)
	keys.err = nil
	must(t, f.Close())
}
