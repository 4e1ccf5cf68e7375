// Command bench measures kmsfs side by side with the plain directory, a plain
// FUSE loopback mount and other encrypting filesystems: the same loads on
// each, alternating within one run, by the commands that users have. `make
// bench` builds kmsfs and runs it.
//
// It prints medians and ratios, and writes JSON and a plot if asked; with
// -gate it fails if a ratio is worse than in an earlier run. As root it drops
// the kernel's caches before cold loads. docs/BENCHMARKS.md has figures, what
// they mean and how to run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/kmsfs/kmsfs/bench/load"
	"github.com/kmsfs/kmsfs/bench/loopback"
	"github.com/kmsfs/kmsfs/bench/report"
)

// config is what the flags say.
type config struct {
	dir       string
	kmsfs     string
	before    string // binary of kmsfs-before
	peers     []string
	groups    []load.Group
	only      *regexp.Regexp
	rounds    int
	scale     float64
	from      string // report to show instead of measuring
	json      string
	plot      string
	gate      string
	tolerance float64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := realMain(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, context.Canceled) {
			err = fmt.Errorf("interrupted: %w", err)
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func realMain(ctx context.Context, args []string) error {
	switch { // how bench starts itself
	case len(args) == 3 && args[0] == "loopback":
		return loopback.Serve(ctx, args[1], args[2])
	case len(args) > 0 && args[0] == load.WorkerCommand:
		return load.Worker(ctx, args[1:], os.Stdin, os.Stdout)
	}
	cfg, err := parse(args)
	if errors.Is(err, flag.ErrHelp) || (err == nil && cfg == nil) {
		return nil
	}
	if err != nil {
		return err
	}
	result, err := obtain(ctx, cfg)
	if result == nil || len(result.Loads) == 0 {
		return err
	}
	return errors.Join(err, show(result, cfg))
}

// obtain measures, or reads an earlier run.
func obtain(ctx context.Context, cfg *config) (*report.Report, error) {
	if cfg.from != "" {
		return readReport(cfg.from)
	}
	return measure(ctx, *cfg, os.Stderr)
}

func readReport(name string) (*report.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// show prints and writes what the flags ask for, the gate last.
func show(result *report.Report, cfg *config) error {
	if err := result.Table(os.Stdout); err != nil {
		return err
	}
	if err := errors.Join(writeFile(cfg.json, result.JSON), writeFile(cfg.plot, result.SVG)); err != nil {
		return err
	}
	if cfg.gate == "" {
		return nil
	}
	earlier, err := readReport(cfg.gate)
	if err != nil {
		return err
	}
	n, err := result.Gate(earlier, cfg.tolerance)
	if err == nil {
		fmt.Printf("gate: %d ratios, none worse than %g of what it was\n", n, 1-cfg.tolerance)
	}
	return err
}

// writeFile writes a file; none if it has no name.
func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
