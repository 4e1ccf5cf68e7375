package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func rewrapCommand(io stdio) *cobra.Command {
	var store storeFlags
	var cfg mount.RewrapConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rewrap VOLUME|DIR",
		Short: "Wrap a mounted volume's keys anew, under the newest version of their key or under other keys",
		Long: "Wraps the volume key and the zone keys of a mounted volume anew, or the key of the zone that DIR, in a mount, lies in. No file is touched.\n" +
			"Without --to, --add or --remove each wrap is renewed under the newest version of its own key.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Target, cfg.KeyStore, cfg.Secret = args[0], store.dir, store.secret
			return mount.Rewrap(cmd.Context(), cfg, func(r mount.Rewrapped) error { return printRewrapped(io, asJSON, r) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&cfg.All, "all", false, "all of the volume that DIR lies in")
	f.StringVar(&cfg.To, "to", "", "wrap by `KEY` alone")
	f.StringVar(&cfg.Add, "add", "", "wrap by `KEY` as well: any one of a key's wraps opens it")
	f.StringVar(&cfg.Remove, "remove", "", "wrap by `KEY` no more")
	f.StringVar(&store.dir, "keystore", "", "key store `DIR` of the key to add or remove, if it is not the mount's")
	store.addSecret(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
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
