package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// pairFlags say where the secrets of two people come from: files, or the terminal, one after the other.
type pairFlags struct{ files []string }

func (f *pairFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.files, "secret-file", nil, "read a secret from `FILE`; given twice, once for each of the two people (otherwise both are asked on the terminal)")
}

// read returns both secrets, which the caller closes.
func (f *pairFlags) read(ctx context.Context, fresh bool) (pair [2]*locked.Buffer, err error) {
	if n := len(f.files); n != 0 && n != 2 {
		return pair, fmt.Errorf("%w: break-glass takes two secrets, each from a --secret-file of its own", mount.ErrUsage)
	}
	prompt := prompter(ctx)
	for i, who := range []string{"secret of the first person", "secret of the second person"} {
		if len(f.files) == 2 {
			pair[i], err = mount.ReadSecretFile(f.files[i])
		} else {
			pair[i], err = prompt(who, fresh)
		}
		if err != nil {
			pair[0].Close()
			return pair, err
		}
	}
	return pair, nil
}

func breakGlassCommand(io stdio) *cobra.Command {
	return group("break-glass", "A way in for an emergency, by two people with a secret each", breakGlassSetupCommand(), breakGlassOpenCommand(io),
		callCommand("close", "End the emergency before its time", identities, func(ctx context.Context, keys *mount.Keys, _ []string) error {
			return keys.CloseBreakGlass(ctx, keymgr.Caller{})
		}))
}

func breakGlassSetupCommand() *cobra.Command {
	var store storeFlags
	var secrets pairFlags
	cmd := &cobra.Command{
		Use: "setup", Short: "Set the two secrets, before the emergency and after each use", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pair, err := secrets.read(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer pair[0].Close()
			defer pair[1].Close()
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return keys.SetBreakGlass(cmd.Context(), keymgr.Caller{}, pair[0].Bytes(), pair[1].Bytes())
			})
		},
	}
	secrets.add(cmd)
	store.add(cmd)
	return cmd
}

func breakGlassOpenCommand(io stdio) *cobra.Command {
	var store storeFlags
	var secrets pairFlags
	var lasts time.Duration
	var reason string
	var out keyOut
	cmd := &cobra.Command{
		Use: "open --reason TEXT", Short: "Get the access key of the emergency identity, for a time; it is recorded as an alert", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return fmt.Errorf("%w: --reason says why, for the audit log", mount.ErrUsage)
			}
			pair, err := secrets.read(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer pair[0].Close()
			defer pair[1].Close()
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return out.give(io, "kmsfs break-glass open --out FILE gives another one", func() (identityKeyView, error) {
					k, until, err := keys.OpenBreakGlass(cmd.Context(), keymgr.Caller{}, pair[0].Bytes(), pair[1].Bytes(), lasts, reason)
					v := viewAccessKey(k)
					v.Until = until
					return v, err
				})
			})
		},
	}
	cmd.Flags().DurationVar(&lasts, "for", keymgr.DefaultEmergency, "how long, 4h at most (`DURATION`)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log (`TEXT`)")
	secrets.add(cmd)
	store.add(cmd)
	out.add(cmd)
	return cmd
}
