package mount

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount/mounttest"
	"github.com/kmsfs/kmsfs/mount/superblock"
)

// openRig opens the volume of a rig in this process.
func openRig(t *testing.T, r *mounttest.Rig) (*Volume, error) {
	t.Helper()
	return OpenVolume(t.Context(), OpenConfig{
		Dir: r.Volume, Socket: socketOf(r.Store), KeyTTL: time.Hour, Log: slog.New(slog.DiscardHandler), GiveUp: func(blockcrypt.VolumeID) error { return nil },
	})
}

// TestRewrapCrash ends a rewrap between the superblock and the key store's copy of it: the volume opens, by the key store's knowledge of what was to come. Without that it does not.
func TestRewrapCrash(t *testing.T) {
	r := mounttest.NewRig(t, mounttest.Options{})
	r.Init()
	r.Must(append([]string{"keyd"}, r.Secret...)...)
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	by := keymgr.Caller{UID: os.Geteuid(), GID: os.Getegid(), PID: os.Getpid()}
	for _, announced := range []bool{true, false} {
		v, err := openRig(t, r)
		ok(err)
		r.Must("key", "rotate", "alias/vault")
		ok(v.rewrap(ctx, by, rewrapArgs{}, func(Rewrapped) error { return nil })) // the key store names materials from now on
		r.Must("key", "rotate", "alias/vault")
		rw := &rewrapper{v: v, by: by, keys: v.keys}
		record, sb, _ := v.wraps.get()
		key, _, err := openVolumeKey(ctx, volumeOpener{direct: v.keys}, sb, record)
		ok(err)
		fresh, _, err := rw.rewrapped(ctx, []wrap{{wrapKey(record, sb.Wraps[0]), sb.Wraps[0]}}, volumeContext(v.ID))
		ok(err)
		n, err := prepareSuperblock(key, record, sb, fresh)
		ok(err)
		key.Wipe()
		if announced {
			ok(rw.announce(ctx, record, sb, n))
		}
		ok(superblock.Write(v.Dir, n.raw))
		ok(v.Close(context.WithoutCancel(ctx)))
		v, err = openRig(t, r)
		if !announced {
			if ClassOf(err) != ClassNotFound {
				t.Fatalf("not announced: %v", err)
			}
			ok(superblock.Write(r.Volume, record.Superblock))
			continue
		}
		ok(err)
		if record, _, version := v.wraps.get(); version != 3 || len(record.Wraps) != 1 {
			t.Errorf("version %d, wraps %+v", version, record.Wraps)
		}
		ok(v.Close(context.WithoutCancel(ctx)))
	}
}
