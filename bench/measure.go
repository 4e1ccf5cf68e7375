package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/bench/load"
	"github.com/kmsfs/kmsfs/bench/peer"
	"github.com/kmsfs/kmsfs/bench/report"
)

// measure sets everything up, runs the rounds and takes everything down
// again, also on failure and when ctx ends. The report holds what was
// measured until then.
func measure(ctx context.Context, cfg config, progress io.Writer) (result *report.Report, err error) {
	work, err := workDir(cfg.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree.tar")
	if err := load.PackTree(ctx, tree, cfg.scale); err != nil {
		return nil, err
	}
	result = &report.Report{Date: time.Now().UTC(), Machine: machine(work), Scale: cfg.scale, Rounds: cfg.rounds}
	loads, notes := selectLoads(cfg)
	result.Notes = notes
	peers, err := openPeers(ctx, cfg, work, result)
	defer func() { err = errors.Join(err, closePeers(peers)) }()
	if err != nil {
		return nil, err
	}
	b := bench{peers: peers, tree: tree, scale: cfg.scale, result: result, progress: progress}
	for round := range cfg.rounds {
		for _, l := range loads {
			if err := b.compare(ctx, l, round); err != nil {
				return result, err
			}
		}
	}
	return result, result.Failed()
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

// selectLoads returns the wanted loads whose programs are installed.
func selectLoads(cfg config) (loads []load.Load, notes []string) {
	for _, l := range load.All() {
		if !cfg.only.MatchString(l.Name) {
			continue
		}
		if l.Tool != "" {
			if _, err := exec.LookPath(l.Tool); err != nil {
				notes = append(notes, fmt.Sprintf("%s left out: %s is not installed", l.Name, l.Tool))
				continue
			}
		}
		loads = append(loads, l)
	}
	return loads, notes
}

// openPeers builds and mounts the peers. The first one must work; others that
// do not are left out with a note.
func openPeers(ctx context.Context, cfg config, work string, result *report.Report) ([]peer.Peer, error) {
	var peers []peer.Peer
	for i, name := range cfg.peers {
		p, err := peer.New(ctx, name, work, cfg.kmsfs)
		if err == nil {
			if err = p.Mount(ctx); err == nil {
				err = os.Mkdir(filepath.Join(p.Dir(), "bench"), 0o755)
			}
			if err != nil {
				err = errors.Join(err, p.Close())
			}
		}
		switch {
		case err == nil:
			peers = append(peers, p)
			result.Peers = append(result.Peers, name)
		case i == 0 || ctx.Err() != nil:
			return peers, fmt.Errorf("%s: %w", name, err)
		default:
			result.Notes = append(result.Notes, fmt.Sprintf("%s left out: %v", name, err))
		}
	}
	return peers, nil
}

func closePeers(peers []peer.Peer) (err error) {
	for _, p := range peers {
		if e := p.Close(); e != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", p.Name(), e))
		}
	}
	return err
}

// bench runs loads on mounted peers.
type bench struct {
	peers    []peer.Peer
	tree     string
	scale    float64
	result   *report.Report
	progress io.Writer
}

// compare runs one load on every peer, beginning with another one each round.
// A load that fails on a peer is noted there and not tried on it again.
func (b *bench) compare(ctx context.Context, l load.Load, round int) error {
	row := b.result.Row(l.Name, l.Unit)
	for i := range b.peers {
		p := b.peers[(i+round)%len(b.peers)]
		runs := row.Runs(p.Name())
		if runs.Error != "" {
			continue
		}
		r, err := b.one(ctx, l, p, round)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			runs.Error = err.Error()
			fmt.Fprintf(b.progress, "round %d  %-32s %-10s %v\n", round+1, l.Name, p.Name(), err)
			continue
		}
		runs.Add(r.Elapsed, r.Work, r.Latencies)
		fmt.Fprintf(b.progress, "round %d  %-32s %-10s %8.2f s\n", round+1, l.Name, p.Name(), r.Elapsed.Seconds())
	}
	return nil
}

// one prepares and times one load on one peer. What earlier loads left to be
// written is written before, so that nobody pays for another one's work.
func (b *bench) one(ctx context.Context, l load.Load, p peer.Peer, round int) (load.Result, error) {
	env := &load.Env{Dir: filepath.Join(p.Dir(), "bench"), Tree: b.tree, Scale: b.scale, Round: round, Sync: p.Sync}
	if l.Setup != nil {
		if err := l.Setup(ctx, env); err != nil {
			return load.Result{}, fmt.Errorf("prepare: %w", err)
		}
	}
	if err := p.Sync(); err != nil {
		return load.Result{}, fmt.Errorf("sync before: %w", err)
	}
	if l.Cold {
		if err := b.cool(ctx, p); err != nil {
			return load.Result{}, err
		}
	}
	unix.Sync()
	return l.Run(ctx, env)
}

// cool mounts the peer anew and empties the kernel's caches.
func (b *bench) cool(ctx context.Context, p peer.Peer) error {
	if err := p.Unmount(ctx); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	if !peer.DropCaches() && len(b.result.Notes) == 0 {
		b.result.Notes = append(b.result.Notes, "not root: cold loads began with the lower filesystem's cache warm")
	}
	if err := p.Mount(ctx); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// machine describes where the figures were taken.
func machine(dir string) map[string]string {
	m := map[string]string{
		"cpus": fmt.Sprint(runtime.NumCPU()),
		"go":   runtime.Version(),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m["kernel"] = unix.ByteSliceToString(name.Release[:])
	}
	if out, err := exec.Command("findmnt", "-n", "-o", "FSTYPE", "-T", dir).Output(); err == nil {
		m["filesystem"] = strings.TrimSpace(string(out))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m["load at start"] = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	if out, err := exec.Command("gocryptfs", "-version").Output(); err == nil {
		m["gocryptfs"], _, _ = strings.Cut(strings.TrimSpace(string(out)), ";")
	}
	return m
}
