// Command bench measures kmsfs side by side with gocryptfs and with a plain
// FUSE loopback mount: the same loads on each, alternating within one run, by
// the commands that users have. `make bench` builds kmsfs and runs it.
//
// It prints a table of medians and of how many times as fast kmsfs is, and
// writes JSON if asked. As root it drops the kernel's caches before cold
// loads. docs/BENCHMARKS.md has figures and what they mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/kmsfs/kmsfs/bench/load"
	"github.com/kmsfs/kmsfs/bench/loopback"
	"github.com/kmsfs/kmsfs/bench/report"
)

// config is what the flags say.
type config struct {
	dir    string
	kmsfs  string
	peers  []string
	only   *regexp.Regexp
	rounds int
	scale  float64
	json   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := realMain(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func realMain(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "loopback" { // how peer.New starts the loopback mount
		return loopback.Serve(ctx, args[1], args[2])
	}
	cfg, err := parse(args)
	if errors.Is(err, flag.ErrHelp) || cfg == nil {
		return nil
	}
	if err != nil {
		return err
	}
	result, err := measure(ctx, *cfg, os.Stderr)
	if result == nil || len(result.Loads) == 0 {
		return err
	}
	return errors.Join(err, show(result, cfg.json))
}

// parse returns nil if the flags asked for a list only.
func parse(args []string) (*config, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	cfg := &config{}
	flags.StringVar(&cfg.dir, "dir", "out/bench", "work in a new directory below `DIR`, on the disk to be measured")
	flags.StringVar(&cfg.kmsfs, "kmsfs", "bin/kmsfs", "the kmsfs `BINARY`")
	peers := flags.String("peers", "kmsfs,loopback,gocryptfs", "filesystems to measure, the first is compared with the others; native is the plain directory")
	only := flags.String("run", "", "only loads whose name matches `REGEXP`")
	flags.IntVar(&cfg.rounds, "rounds", 3, "`N` rounds; medians are shown")
	flags.Float64Var(&cfg.scale, "scale", 1, "`FACTOR` on sizes and counts")
	flags.StringVar(&cfg.json, "json", "", "write all runs to `FILE` as JSON")
	list := flags.Bool("list", false, "list the loads")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if *list {
		for _, l := range load.All() {
			fmt.Println(l.Name)
		}
		return nil, nil
	}
	if flags.NArg() > 0 || cfg.rounds < 1 || cfg.scale <= 0 || cfg.scale > 100 || *peers == "" {
		return cfg, fmt.Errorf("unusable arguments: %q", args)
	}
	cfg.peers = strings.Split(*peers, ",")
	var err error
	cfg.only, err = regexp.Compile(*only)
	return cfg, err
}

func show(result *report.Report, jsonFile string) error {
	if err := result.Table(os.Stdout); err != nil || jsonFile == "" {
		return err
	}
	f, err := os.Create(jsonFile)
	if err != nil {
		return err
	}
	return errors.Join(result.JSON(f), f.Close())
}
