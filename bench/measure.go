package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/bench/load"
	"github.com/kmsfs/kmsfs/bench/peer"
	"github.com/kmsfs/kmsfs/bench/report"
)

// bench is one run: groups of loads, each on new filesystems.
type bench struct {
	cfg      config
	work     string // absolute
	tree     string
	result   *report.Report
	progress io.Writer
}

// measure sets everything up, runs the groups and takes everything down
// again, also on failure and when ctx ends. The report holds what was
// measured until then; it is nil if nothing could be.
func measure(ctx context.Context, cfg config, progress io.Writer) (result *report.Report, err error) {
	work, err := workDir(cfg.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &bench{cfg: cfg, work: work, tree: filepath.Join(work, "tree.tar"), progress: progress,
		result: &report.Report{Date: time.Now().UTC(), Machine: machine(work), Scale: cfg.scale, Rounds: cfg.rounds}}
	if err := load.PackTree(ctx, b.tree, cfg.scale); err != nil {
		return nil, err
	}
	for _, g := range cfg.groups {
		loads := b.selectLoads(g)
		if len(loads) == 0 {
			continue
		}
		if err := b.group(ctx, g.Name, loads); err != nil {
			return b.result, err
		}
	}
	if len(b.result.Loads) == 0 {
		return nil, fmt.Errorf("no load of these groups matches -run %q; see -list", cfg.only)
	}
	return b.result, b.result.Failed()
}

func workDir(parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, "run-")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// note adds a note unless it is there.
func (b *bench) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(b.result.Notes, n) {
		b.result.Notes = append(b.result.Notes, n)
	}
}

// selectLoads returns the wanted loads whose programs are installed.
func (b *bench) selectLoads(g load.Group) (loads []load.Load) {
	for _, l := range g.Loads {
		if !b.cfg.only.MatchString(l.Name) {
			continue
		}
		if l.Tool != "" {
			if _, err := exec.LookPath(l.Tool); err != nil {
				b.note("%s left out: %s is not installed", l.Name, l.Tool)
				continue
			}
		}
		loads = append(loads, l)
	}
	return loads
}

// group runs all rounds of loads on filesystems of their own.
func (b *bench) group(ctx context.Context, name string, loads []load.Load) (err error) {
	dir := filepath.Join(b.work, name)
	peers, err := b.openPeers(ctx, dir)
	defer func() { err = errors.Join(err, closePeers(peers), os.RemoveAll(dir)) }()
	if err != nil {
		return err
	}
	for round := range b.cfg.rounds {
		for _, l := range loads {
			if err := b.compare(ctx, name, l, peers, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// openPeers builds and mounts the peers below dir. The first one must work;
// others that do not are left out with a note.
func (b *bench) openPeers(ctx context.Context, dir string) (peers []peer.Peer, err error) {
	for i, name := range b.cfg.peers {
		p, err := b.openPeer(ctx, name, dir)
		switch {
		case err == nil:
			peers = append(peers, p)
			b.present(name)
		case ctx.Err() != nil:
			return peers, ctx.Err()
		case i == 0:
			return peers, fmt.Errorf("%s: %w", name, err)
		case errors.Is(err, exec.ErrNotFound):
			b.note("%s left out: not installed", name)
		default:
			b.note("%s left out: %v", name, err)
		}
	}
	return peers, nil
}

func (b *bench) openPeer(ctx context.Context, name, dir string) (peer.Peer, error) {
	bin := b.cfg.kmsfs
	if name == peer.Before {
		bin = b.cfg.before
	}
	p, err := peer.New(ctx, name, dir, bin)
	if err != nil {
		return nil, err
	}
	if err = p.Mount(ctx); err == nil {
		err = os.Mkdir(filepath.Join(p.Dir(), "bench"), 0o755)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// present adds a peer to the report, in the order of the flags. What kmsfs is
// called with is a subject, and so is the first.
func (b *bench) present(name string) {
	if slices.Contains(b.result.Peers, name) {
		return
	}
	b.result.Peers = append(b.result.Peers, name)
	slices.SortFunc(b.result.Peers, func(x, y string) int {
		return slices.Index(b.cfg.peers, x) - slices.Index(b.cfg.peers, y)
	})
	if name == b.cfg.peers[0] || strings.HasPrefix(name, "kmsfs") {
		b.result.Subjects = append(b.result.Subjects, name)
	}
}

func closePeers(peers []peer.Peer) (err error) {
	for _, p := range peers {
		if e := p.Close(); e != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", p.Name(), e))
		}
	}
	return err
}

// compare runs one load on every peer, beginning with another one each round.
// A load that fails on a peer is noted there and not tried on it again.
func (b *bench) compare(ctx context.Context, group string, l load.Load, peers []peer.Peer, round int) error {
	row := b.result.AddRow(group, l.Name, l.Unit, l.Lower)
	for i := range peers {
		p := peers[(i+round)%len(peers)]
		runs := row.Runs(p.Name())
		if runs.Error != "" {
			continue
		}
		r, err := b.one(ctx, l, p, round)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, load.ErrNotOffered) {
			continue
		}
		if err != nil {
			runs.Error = err.Error()
			fmt.Fprintf(b.progress, "round %d  %-40s %-12s %v\n", round+1, l.Name, p.Name(), err)
			continue
		}
		runs.Add(r.Value, r.Latencies)
		fmt.Fprintf(b.progress, "round %d  %-40s %-12s %12.3f %s\n", round+1, l.Name, p.Name(), r.Value, l.Unit)
	}
	return nil
}

// one prepares and runs one load on one peer. What earlier loads left to be
// written is written before, so that nobody pays for another one's work.
func (b *bench) one(ctx context.Context, l load.Load, p peer.Peer, round int) (load.Result, error) {
	h := &host{Peer: p, note: b.note}
	env := &load.Env{Dir: filepath.Join(p.Dir(), "bench"), Tree: b.tree, Scale: b.cfg.scale, Round: round, Host: h}
	if _, err := os.Stat(env.Dir); err != nil { // an earlier load failed between unmount and mount
		if err := p.Mount(ctx); err != nil {
			return load.Result{}, fmt.Errorf("mount again: %w", err)
		}
	}
	if l.Setup != nil {
		if err := l.Setup(ctx, env); err != nil {
			return load.Result{}, fmt.Errorf("prepare: %w", err)
		}
	}
	if err := p.Sync(); err != nil {
		return load.Result{}, fmt.Errorf("sync before: %w", err)
	}
	if l.Cold {
		if _, err := h.Remount(ctx); err != nil {
			return load.Result{}, err
		}
	}
	peer.SyncAll()
	return l.Run(ctx, env)
}
