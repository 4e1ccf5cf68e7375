package keystore

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
)

// shelf keeps tables in memory across closing and opening, as a disk does.
type shelf struct {
	mu     sync.Mutex
	stores map[string]kv.Store
	keys   map[string][32]byte
	fail   error
}

// unclosed is a store that outlives its Close.
type unclosed struct{ kv.Store }

func (unclosed) Close() error { return nil }

func (s *shelf) open(_ context.Context, p KVParams) (kv.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	if s.stores == nil {
		s.stores, s.keys = map[string]kv.Store{}, map[string][32]byte{}
	}
	if st, err := os.Stat(p.Dir); err != nil || !st.IsDir() {
		return nil, err
	}
	if _, ok := s.stores[p.Dir]; ok == p.Create {
		return nil, kv.ErrInvalid
	}
	if p.Create {
		s.stores[p.Dir], s.keys[p.Dir] = memory.New(), *p.Key
	}
	if s.keys[p.Dir] != *p.Key {
		return nil, kv.ErrCorrupt
	}
	return unclosed{s.stores[p.Dir]}, nil
}

func buffer(t *testing.T, s string) *locked.Buffer {
	t.Helper()
	b, err := locked.FromBytes([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// keyText is the content of a key file.
var keyText = strings.Repeat("0123456789abcdef", 4) + "\n"

// newKeyStore makes a key store that opens by a key file beside it.
func newKeyStore(t *testing.T, s *shelf) (dir string, cfg Config) {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(keyText), 0o600); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "ks")
	cfg, err := Init(t.Context(), InitConfig{Dir: dir, Unlock: UnlockConfig{Kind: KeyFile, KeyFile: keyFile}, Secret: buffer(t, keyText), Options: Options{OpenKV: s.open}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, cfg
}

func openStore(t *testing.T, dir string, secret *locked.Buffer, s *shelf) *Store {
	t.Helper()
	store, err := Open(t.Context(), dir, secret, Options{OpenKV: s.open})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

var me = keymgr.Caller{UID: os.Geteuid(), RequestID: "r", Who: policy.Principal{ARN: policy.RootARN(keymgr.AccountID), Account: keymgr.AccountID, Root: true}}
