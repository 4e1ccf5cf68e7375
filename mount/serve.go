package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/fs"
	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/mount/control"
	"github.com/kmsfs/kmsfs/mount/jobs"
	"github.com/kmsfs/kmsfs/mount/metrics"
)

// closeTimeout bounds how long a clean close may take; what is durable by then stays so.
const closeTimeout = 2 * time.Minute

// namespaceWait is how long the kernel may take to let go of a mount that is unmounted, before a copy of it elsewhere is the likely cause.
const namespaceWait = 10 * time.Second

// abortWait is how long a broken connection may take to end.
const abortWait = 2 * time.Second

// daemon serves one mount.
type daemon struct {
	cfg    daemonConfig
	run    runDir
	volume *Volume
	fs     *fs.FS
	server *fs.Server
	jobs   *jobs.Runner
	ctl    *control.Server
	log    *slog.Logger

	inside sync.RWMutex // read-locked by whoever has something of the mount open, locked to unmount

	registry *metrics.Registry // nil: nothing is measured
	metrics  *metrics.Server

	quit   context.CancelFunc // ends the daemon
	closed chan struct{}      // the volume is closed
	mu     struct {
		sync.Mutex
		closing  bool
		closeErr error
		device   string
	}
}

// serve mounts a volume and serves it until the mount is gone or ctx is done; then everything is made durable and closed. ready is called once: with
// nil when the mount answers, or with what went wrong.
func serve(ctx context.Context, cfg daemonConfig, log *slog.Logger, ready func(error)) error {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	d := &daemon{cfg: cfg, log: log, quit: quit, closed: make(chan struct{})}
	if err := d.open(ctx); err != nil {
		err = errors.Join(err, d.close())
		ready(err)
		return err
	}
	ready(nil)
	log.Info("mounted", "volume", d.volume.ID, "pid", os.Getpid(), "recovery", d.volume.Recovery)
	upkeep := make(chan error, 1)
	go func() { upkeep <- d.volume.content.Run(ctx) }()
	keeper := keepKeyd(d.cfg, log)
	go keeper.run(ctx, d.volume.keys)
	watched := make(chan struct{})
	go func() { defer close(watched); d.watchKeys(ctx, keeper.miss) }()
	swept, worked := make(chan struct{}), make(chan struct{})
	go func() { defer close(swept); d.sweep(ctx) }()
	go func() { defer close(worked); d.work(ctx) }()
	select {
	case <-ctx.Done():
	case <-d.server.Done():
	}
	unmountErr := d.leave()
	quit()
	<-swept
	<-watched
	<-worked
	upkeepErr := <-upkeep
	if errors.Is(upkeepErr, context.Canceled) {
		upkeepErr = nil
	}
	err := errors.Join(unmountErr, upkeepErr, d.close())
	if err != nil {
		log.Error("closed with errors", "error", err)
		return err
	}
	log.Info("closed", "volume", d.volume.ID)
	return nil
}

// open builds the stack bottom-up; close takes down what is there.
func (d *daemon) open(ctx context.Context) (err error) {
	if d.run, err = openRuntime(); err != nil {
		return err
	}
	place, err := checkMountPoint(d.cfg.Volume, d.cfg.KeyStore, d.cfg.MountPoint)
	if err != nil {
		return err
	}
	if within(d.run.dir, place.MountPoint) {
		return fmt.Errorf("%w: the runtime directory %s lies inside the mount point", ErrMountPoint, d.run.dir)
	}
	if d.cfg.Metrics != "" {
		d.registry = metrics.NewRegistry(d.cfg.Version)
	}
	d.volume, err = OpenVolume(ctx, OpenConfig{
		Metrics: d.registry,
		Dir:     place.Volume, Socket: socketOf(d.cfg.KeyStore), ReadOnly: d.cfg.Options.ReadOnly, AcceptRestore: d.cfg.AcceptRestore, KeyTTL: d.cfg.KeyTTL, AuditFailure: d.cfg.AuditFailure, AuditLevel: d.cfg.AuditLevel, Log: d.log, Ballast: true,
		GiveUp: func(id blockcrypt.VolumeID) error { return d.run.whyBusy(ctx, id.String()) },
		Copied: func(id blockcrypt.VolumeID) error { return d.run.whyBusy(ctx, id.String()) },
	})
	if err != nil {
		return err
	}
	d.jobs = jobs.New(jobs.Config{
		As:   inNameOf,
		Meta: d.volume.meta, Content: d.volume.content, Keys: zoneKeys{d.volume}, Shred: shredder{d}, Ready: d.readyForJob, Allow: d.volume.allowJob, Ended: d.volume.jobEnded, Log: d.log,
	})
	if err := d.mount(place.MountPoint); err != nil {
		return err
	}
	if err := d.serveMetrics(); err != nil {
		return err
	}
	return d.announce(place)
}

func (d *daemon) mount(mountPoint string) (err error) {
	v, o := d.volume, d.cfg.Options
	d.fs, err = fs.New(fs.Config{
		Meta: v.meta, Content: v.content, Keys: v.ring, Access: v.guard, Attribute: v.ownAttribute, MoveZone: v.moveZone, Queued: d.jobs.Wake, Lower: v.Dir, SyncNames: v.syncNames, Owed: v.kv.Owed, ReadOnly: o.ReadOnly, NoAtime: o.NoAtime,
		Recorder: v.recorder(), Log: d.log,
	})
	if err != nil {
		return fmt.Errorf("make filesystem: %w", err)
	}
	v.own.set(mountPoint, 0)
	source := o.FSName
	if source == "" {
		source = v.Dir
	}
	d.server, err = fs.Mount(mountPoint, d.fs, fs.MountOptions{
		FsName: source, ReadOnly: o.ReadOnly, AllowOther: o.AllowOther, Suid: o.Suid, Dev: o.Dev, NoExec: o.NoExec, NoAtime: o.NoAtime,
		Transport: o.Transport, Idle: o.Idle, Meter: d.meter(),
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", v.Dir, err)
	}
	moreProcessors(d.server.Transport())
	v.own.set(d.server.MountPoint(), d.server.Device())
	return nil
}

// announce makes the daemon findable: control socket and record.
func (d *daemon) announce(p place) (err error) {
	device, err := deviceOf(p.MountPoint) // the first request: the mount answers
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.mu.device = device
	d.mu.Unlock()
	id := d.volume.ID.String()
	d.ctl, err = control.Listen(control.Config{Path: d.run.socket(id), Handlers: d.handlers(), Failure: failure, Log: d.log})
	if err != nil {
		return err
	}
	return d.run.write(record{Volume: p.Volume, ID: id, MountPoint: p.MountPoint, Device: device, PID: os.Getpid()})
}

// sweep gives back the space that a crash has lost: objects without a file, and ends of objects beyond their file.
func (d *daemon) sweep(ctx context.Context) {
	if d.volume.kv.Stats().Recovery.Clean || d.cfg.Options.ReadOnly {
		return
	}
	removed := 0
	err := d.volume.content.CheckObjects(ctx, true, func(f content.Fault) {
		if f.Kind.Leftover() {
			removed++
		} else {
			d.log.Warn("found while sweeping", "object", f.Object, "fault", f.Kind)
		}
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("sweep after a crash", "error", err)
		return
	}
	d.volume.kv.Unswept(false)
	d.log.Info("swept after a crash", "removed", removed)
}

// work goes on with the jobs of the volume.
func (d *daemon) work(ctx context.Context) {
	if !d.cfg.Options.ReadOnly {
		d.jobs.Run(ctx)
	}
}

// leave unmounts if the mount is still there. If programs still use it, here or in another mount namespace, it is detached: they lose their files, what
// they had written is kept.
func (d *daemon) leave() error {
	d.setClosing()
	err := d.unmount()
	if !errors.Is(err, ErrBusy) {
		return err
	}
	d.log.Warn("programs still use the mount; it is detached")
	if err := d.flush(); err != nil {
		d.log.Error("write back dirty pages", "error", err)
	}
	if err := d.server.Detach(); err != nil {
		return err
	}
	if err := d.server.Abort(); err != nil { // no fusectl: the connection ends with this process
		d.log.Warn("connection of a busy mount not broken", "error", err)
	}
	select {
	case <-d.server.Done():
	case <-time.After(abortWait):
	}
	return nil
}

// unmount unmounts as long as nobody uses the mount. ErrBusy if somebody does, also in a mount namespace that has a copy of it: then it is gone from
// this one, and goes on to be served in the other.
func (d *daemon) unmount() error {
	ctx, cancel := awake.WithTimeout(context.Background(), namespaceWait)
	defer cancel()
	d.inside.Lock()
	err := d.server.Unmount(ctx)
	d.inside.Unlock()
	switch {
	case errors.Is(err, fs.ErrBusy):
		return fmt.Errorf("%w: %s", ErrBusy, d.server.MountPoint())
	case errors.Is(err, context.DeadlineExceeded):
		return advise(fmt.Errorf("%w: %s is unmounted here, but another mount namespace has a copy of the mount", ErrBusy, d.server.MountPoint()),
			"the volume is closed when the container or service with that namespace ends, or at once, by SIGTERM to process %d", os.Getpid())
	}
	return err
}

// close takes the stack down top-down, whatever part of it there is.
func (d *daemon) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if d.metrics != nil { // what it asks goes away
		errs = append(errs, d.metrics.Close())
	}
	if d.server != nil && !d.isClosing() { // leave has not been there: the start went wrong
		errs = append(errs, d.server.Unmount(ctx))
	}
	if d.fs != nil {
		errs = append(errs, d.fs.Close(ctx))
	}
	if d.ctl != nil { // before the lock is free: then the place may be another daemon's
		errs = append(errs, d.ctl.Hide(), d.run.forget(d.volume.ID.String()))
	}
	if d.volume != nil {
		errs = append(errs, d.volume.Close(ctx))
	}
	err := errors.Join(errs...)
	d.mu.Lock()
	d.mu.closeErr = err
	d.mu.Unlock()
	close(d.closed)
	if d.ctl != nil {
		err = errors.Join(err, d.ctl.Close())
	}
	return err
}

func (d *daemon) setClosing() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closing = true
}

func (d *daemon) isClosing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.closing
}
