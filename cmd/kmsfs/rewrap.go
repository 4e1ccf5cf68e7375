package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func rewrapCommand(io stdio) *cobra.Command {
	var store storeFlags
	var cfg mount.RewrapConfig
	var cpu string
	var wait, asJSON bool
	cmd := &cobra.Command{
		Use:   "rewrap VOLUME|DIR",
		Short: "Wrap a mounted volume's keys anew, under the newest version of their key or under other keys",
		Long: "Wraps the volume key and the zone keys of a mounted volume anew, or the key of the zone that DIR, in a mount, lies in. No file is touched.\n" +
			"Without --to, --add or --remove each wrap is renewed under the newest version of its own key. With --deep the zones get other keys, too, and a job wraps\n" +
			"the key of each of their files under these; then the keys that the zones had are destroyed. No data is touched.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg.Target, cfg.KeyStore, cfg.Secret = args[0], store.dir, store.secret
			if !cfg.Deep && (wait || cpu != "") {
				return fmt.Errorf("%w: --wait and --cpu are about the job of --deep", mount.ErrUsage)
			}
			if cfg.CPU, err = parsePercent(cpu); err != nil {
				return err
			}
			job, err := mount.Rewrap(cmd.Context(), cfg, func(r mount.Rewrapped) error { return printRewrapped(io, asJSON, r) })
			if err != nil || job == nil {
				return err
			}
			return finishRewrap(cmd.Context(), io, asJSON, wait, args[0], *job)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&cfg.All, "all", false, "all of the volume that DIR lies in")
	f.StringVar(&cfg.To, "to", "", "wrap by `KEY` alone")
	f.StringVar(&cfg.Add, "add", "", "wrap by `KEY` as well: any one of a key's wraps opens it")
	f.StringVar(&cfg.Remove, "remove", "", "wrap by `KEY` no more")
	f.BoolVar(&cfg.Deep, "deep", false, "give the zones other keys, and wrap the keys of all their files under these, as a job")
	f.StringVar(&cpu, "cpu", "", "with --deep: work at most this `PERCENT` of the time, as in 25%")
	f.BoolVar(&wait, "wait", false, "with --deep: return when the job is over")
	f.StringVar(&store.dir, "keystore", "", "key store `DIR` of the key to add or remove, if it is not the mount's")
	store.addSecret(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// finishRewrap shows the job of a deep rewrap, when it is over if that is wanted.
func finishRewrap(ctx context.Context, io stdio, asJSON, wait bool, target string, st mount.JobStatus) (err error) {
	if wait {
		if st, err = waitForJob(ctx, io, asJSON, target, st.ID); err != nil {
			return err
		}
	}
	if asJSON {
		err = json.NewEncoder(io.out).Encode(st)
	} else {
		err = io.print(false, st, func(w *tabwriter.Writer) { writeTable(w, []mount.JobStatus{st}, jobColumns) })
	}
	if err != nil {
		return err
	}
	return jobFailure(wait, st)
}

func printRewrapped(io stdio, asJSON bool, r mount.Rewrapped) error {
	if asJSON {
		return json.NewEncoder(io.out).Encode(r)
	}
	names := make([]string, len(r.Wraps))
	for i, w := range r.Wraps {
		names[i] = w.Key
		switch {
		case w.Key == "":
			names[i] = "a key not known here"
		case w.Version != 0:
			names[i] += fmt.Sprintf(" version %d", w.Version)
		}
	}
	if _, err := fmt.Fprintf(io.out, "%s: wrapped by %s\n", r.What, strings.Join(names, ", ")); err != nil {
		return err
	}
	for _, why := range r.Kept {
		fmt.Fprintf(io.err, "%s: not renewed: %s\n", r.What, why)
	}
	return nil
}
