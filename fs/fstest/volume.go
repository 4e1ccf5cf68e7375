package fstest

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/fs/object"
	"github.com/kmsfs/kmsfs/fs/transport"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// store is what a mount needs of a KV store.
type store interface {
	kv.Store
	content.Journal
}

// backend makes the KV store of a volume.
type backend interface {
	open(ctx context.Context, settler *content.Settler) (store, error)
	destroy() error
}

// disk is the journalled store in the volume's directory.
type disk struct {
	m  *Mount
	id blockcrypt.VolumeID // of the store; that of the rows is chosen later
}

func (d *disk) options(settler *content.Settler) local.Options {
	o := local.Options{Dir: d.m.Volume, Key: d.m.journal, Volume: d.id, Log: testLog(d.m.t), Ballast: true, Export: true}
	if settler != nil {
		o.Settler = settler
	}
	return o
}

func (d *disk) open(ctx context.Context, settler *content.Settler) (store, error) {
	return local.Open(ctx, d.options(settler))
}

func (d *disk) destroy() error { return nil }

// inMemory keeps the KV store over remounts. It never checkpoints, so images stay in it.
type inMemory struct {
	kept *memory.Store
}

func (b *inMemory) open(context.Context, *content.Settler) (store, error) {
	return unsettled{b.kept}, nil
}

func (b *inMemory) destroy() error { return b.kept.Close() }

// unsettled is a store without checkpoints.
type unsettled struct{ *memory.Store }

func (unsettled) Checkpoint(context.Context) error { return nil }

func (unsettled) Hasten() {}

func (unsettled) CheckpointDue() <-chan struct{} { return nil }

func (unsettled) Backlog() (waiting, due int64) { return 0, 1 << 20 }

func (unsettled) Close() error { return nil }

// format makes the volume.
func (m *Mount) format() error {
	ctx := context.Background()
	if m.opts.Memory {
		kept := memory.New()
		m.backend, m.keys = &inMemory{kept}, metatest.NewVolumeOn(m.t, kept)
	} else {
		id, err := blockcrypt.NewVolumeID()
		if err != nil {
			return err
		}
		d := &disk{m, id}
		if err := local.Create(ctx, d.options(nil)); err != nil {
			return err
		}
		kept, err := local.Open(ctx, d.options(nil))
		if err != nil {
			return err
		}
		m.backend, m.keys = d, metatest.NewVolumeOn(m.t, kept)
		if err := kept.Close(); err != nil {
			return err
		}
	}
	m.Keyring = m.keys.Keyring
	return nil
}

// up opens the volume from the bottom up, and mounts it.
func (m *Mount) up(ctx context.Context) error {
	unix.Umask(0o022)
	objects, err := object.Open(filepath.Join(m.Volume, "objects"), object.Options{})
	if err != nil {
		return err
	}
	m.undo(objects.Close)
	namer, err := blockcrypt.NewObjectNamer(m.objects)
	if err != nil {
		return err
	}
	kept, err := m.backend.open(ctx, content.NewSettler(objects, namer))
	if err != nil {
		return err
	}
	m.undo(kept.Close)
	m.Store = m.keys.Open(m.t, meta.Config{KV: kept, Now: fs.Now})
	if err := errors.Join(m.setZone(ctx), m.setOwner(ctx)); err != nil {
		return err
	}
	m.Content, err = content.New(content.Config{
		Meta: m.Store, Keys: m.Keyring, KV: kept, Objects: objects, Namer: namer, Log: testLog(m.t),
	})
	if err != nil {
		return err
	}
	m.undo(func() error { return m.Content.Close(context.Background()) })
	m.runContent()
	return m.upFS(func(ctx context.Context) error { return kept.Sync(ctx, m.Store.LastRev()) })
}

// setZone gives the root zone the parameters of the options.
func (m *Mount) setZone(ctx context.Context) error {
	params := meta.DefaultParams()
	if m.opts.BlockSize != 0 {
		params.BlockSize = m.opts.BlockSize
	}
	if m.opts.Inline != 0 {
		params.Inline = uint32(max(m.opts.Inline, 0))
	}
	params.Codec, params.Level = m.opts.Codec, m.opts.Codec.DefaultLevel()
	zone, err := m.Store.Zone(ctx, meta.RootZone)
	if err != nil {
		return err
	}
	if zone.Params == params {
		return nil
	}
	zone.Params = params
	_, err = m.Store.PutZone(ctx, zone)
	return err
}

// setOwner gives the root directory to who runs the test.
func (m *Mount) setOwner(ctx context.Context) error {
	if os.Geteuid() == 0 {
		return nil
	}
	_, err := m.Store.SetAttr(ctx, meta.RootIno, func(a *meta.Attr) error {
		a.UID, a.GID = uint32(os.Geteuid()), uint32(os.Getegid())
		return nil
	})
	return err
}

func (m *Mount) runContent() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Content.Run(ctx) }()
	m.undo(func() error {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
}

func (m *Mount) upFS(syncNames func(context.Context) error) error {
	cfg := fs.Config{Meta: m.Store, Content: m.Content, Keys: m.Keyring, Lower: m.Volume, SyncNames: syncNames, Log: testLog(m.t)}
	if m.opts.Config != nil {
		m.opts.Config(&cfg)
	}
	var err error
	if m.FS, err = fs.New(cfg); err != nil {
		return err
	}
	m.undo(func() error { return m.FS.Close(context.Background()) })
	if m.opts.Mount.Transport == "" {
		m.opts.Mount.Transport = transport.Kind(os.Getenv("KMSFS_TEST_TRANSPORT"))
	}
	if m.Server, err = fs.Mount(m.Dir, m.FS, m.opts.Mount); err != nil {
		return err
	}
	m.undo(m.unmount)
	return stopPolling(m.Dir)
}

// stopPolling makes the kernel learn that the mount has no poll(2). Go's runtime polls every file that a test opens; the kernel would ask the
// server about it within epoll_ctl(2), which holds a processor that the server may need.
func stopPolling(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0) // go-fuse answers for this name
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err
}
