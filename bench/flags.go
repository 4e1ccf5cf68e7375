package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/kmsfs/kmsfs/bench/load"
	"github.com/kmsfs/kmsfs/bench/peer"
)

// parse returns nil if the flags asked for a list only.
func parse(args []string) (*config, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	cfg := &config{}
	flags.StringVar(&cfg.dir, "dir", "out/bench", "work in a new directory below `DIR`, on the disk to be measured")
	flags.StringVar(&cfg.kmsfs, "kmsfs", "bin/kmsfs", "the kmsfs `BINARY`")
	flags.StringVar(&cfg.before, "before", "", "the `BINARY` of the filesystem kmsfs-before: another build, measured beside")
	peers := flags.String("peers", strings.Join(peer.Names(), ","), "filesystems to measure; those of kmsfs, and the first, are compared with the others")
	groups := flags.String("groups", "default", "`NAMES` of groups of loads, \"default\" or \"all\"; see -list")
	only := flags.String("run", "", "of these groups only loads whose name matches `REGEXP`")
	flags.IntVar(&cfg.rounds, "rounds", 3, "`N` rounds; medians are shown")
	flags.Float64Var(&cfg.scale, "scale", 0.1, "`FACTOR` on sizes and counts; below 0.5 the source tree is a part of Go's, not all of it")
	flags.StringVar(&cfg.from, "from", "", "measure nothing, show the run in `FILE`, made with -json")
	flags.StringVar(&cfg.json, "json", "", "write all figures to `FILE` as JSON")
	flags.StringVar(&cfg.plot, "plot", "", "write a plot of the ratios to `FILE` as SVG")
	flags.StringVar(&cfg.gate, "gate", "", "fail if a ratio is worse than in the run in `FILE`, made with -json at the same scale")
	flags.Float64Var(&cfg.tolerance, "tolerance", 0.25, "part of a ratio that it may lose before -gate fails")
	list := flags.Bool("list", false, "list groups and loads")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if *list {
		return nil, printLoads()
	}
	cfg.peers = strings.Split(*peers, ",")
	var errGroups, errOnly error
	cfg.groups, errGroups = selectGroups(*groups)
	cfg.only, errOnly = regexp.Compile(*only)
	return cfg, errors.Join(cfg.check(flags.Args()), errGroups, errOnly)
}

func (cfg *config) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("no arguments are taken: %q", rest)
	case cfg.rounds < 1:
		return errors.New("-rounds: at least 1")
	case cfg.scale <= 0 || cfg.scale > 100:
		return errors.New("-scale: above 0, at most 100")
	case cfg.tolerance < 0 || cfg.tolerance >= 1:
		return errors.New("-tolerance: at least 0, below 1")
	}
	for i, p := range cfg.peers {
		switch {
		case p == peer.Before && cfg.before == "":
			return fmt.Errorf("-peers: %s needs -before", p)
		case p != peer.Before && !slices.Contains(peer.Names(), p):
			return fmt.Errorf("-peers: no filesystem %q: known are %s, %s", p, strings.Join(peer.Names(), ", "), peer.Before)
		}
		if slices.Contains(cfg.peers[:i], p) {
			return fmt.Errorf("-peers: %s twice", p)
		}
	}
	return nil
}

// selectGroups returns the groups of a list of names in the order in which
// they run.
func selectGroups(list string) (groups []load.Group, err error) {
	names := strings.Split(list, ",")
	for _, g := range load.Groups() {
		wanted := slices.Contains(names, g.Name) || slices.Contains(names, "all") || (g.Default && slices.Contains(names, "default"))
		if wanted {
			groups = append(groups, g)
		}
	}
	for _, name := range names {
		known := slices.ContainsFunc(load.Groups(), func(g load.Group) bool { return g.Name == name })
		if !known && name != "all" && name != "default" {
			return nil, fmt.Errorf("-groups: no group %q; see -list", name)
		}
	}
	return groups, nil
}

func printLoads() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, g := range load.Groups() {
		byName := ""
		if !g.Default {
			byName = " (by name only)"
		}
		fmt.Fprintf(w, "%s: %s%s\n", g.Name, g.About, byName)
		for _, l := range g.Loads {
			fmt.Fprintf(w, "  %s\t%s\n", l.Name, l.Unit)
		}
	}
	return w.Flush()
}
