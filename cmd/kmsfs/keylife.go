package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// keyRotateCommand rotates now, or by period.
func keyRotateCommand() *cobra.Command {
	var store storeFlags
	var every int
	var never bool
	cmd := &cobra.Command{
		Use: "rotate KEY", Short: "Give a key new material, now or (--every, --never) by period", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if never && cmd.Flags().Changed("every") {
				return fmt.Errorf("%w: --every and --never exclude each other", mount.ErrUsage)
			}
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				switch {
				case never:
					return keys.DisableKeyRotation(cmd.Context(), keymgr.Caller{}, arn)
				case cmd.Flags().Changed("every"):
					return keys.EnableKeyRotation(cmd.Context(), keymgr.Caller{}, arn, every)
				}
				return keys.RotateKeyOnDemand(cmd.Context(), keymgr.Caller{}, arn)
			})
		},
	}
	cmd.Flags().IntVar(&every, "every", 0, "from now on every `DAYS` (90 to 2560)")
	cmd.Flags().BoolVar(&never, "never", false, "no longer by period")
	store.addAs(cmd)
	return cmd
}

func withKeyARN(ctx context.Context, store *storeFlags, name string, fn func(*mount.Keys, string) error) error {
	return withKeys(ctx, store, func(keys *mount.Keys) error {
		arn, err := keyARN(ctx, keys, name)
		if err != nil {
			return err
		}
		return fn(keys, arn)
	})
}

// keyDeleteCommand schedules a deletion, or cancels or confirms one.
func keyDeleteCommand(io stdio) *cobra.Command {
	var store storeFlags
	var days int
	var cancel, confirm, yes bool
	cmd := &cobra.Command{
		Use: "delete KEY", Short: "Delete a key after a window of days; what it wraps is lost then", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				switch {
				case cancel:
					_, err := keys.CancelKeyDeletion(cmd.Context(), keymgr.Caller{}, arn)
					return err
				case confirm:
					return keys.ConfirmKeyDeletion(cmd.Context(), keymgr.Caller{}, arn)
				}
				io.showDependents(cmd.Context(), keys, arn)
				if !yes {
					if err := io.agree(fmt.Sprintf("Delete %s?", arn)); err != nil {
						return err
					}
				}
				out, err := keys.ScheduleKeyDeletion(cmd.Context(), keymgr.Caller{}, arn, days)
				if err == nil {
					fmt.Fprintf(io.err, "%s is deleted on %s; kmsfs key delete --cancel keeps it\n", out.KeyID, since(out.DeletionDate))
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&days, "days", 0, "the window, 7 to 30 `DAYS` (30)")
	f.BoolVar(&cancel, "cancel", false, "keep a key that waits for its deletion; it is disabled then")
	f.BoolVar(&confirm, "confirm", false, "go on with a deletion that a jump of the clock has stopped")
	f.BoolVar(&yes, "yes", false, "don't ask")
	store.addAs(cmd)
	return cmd
}

// showDependents names what is lost with a key, as far as it is known to who asks.
func (std stdio) showDependents(ctx context.Context, keys *mount.Keys, arn string) {
	all, err := keys.Dependents(ctx, arn)
	if err != nil {
		fmt.Fprintf(std.err, "what is lost with this key is not known: %v\n", err)
	}
	for _, d := range all {
		switch {
		case d.All:
			fmt.Fprintf(std.err, "volume %s (%s) cannot be opened without this key\n", quote(d.Volume), d.ID)
		case d.Unknown:
			fmt.Fprintf(std.err, "volume %s (%s) is not mounted: directories in it may be under this key\n", quote(d.Volume), d.ID)
		default:
			fmt.Fprintf(std.err, "directory %s of volume %s cannot be read without this key: %d files\n", quote(d.Directory), quote(d.Volume), d.Files)
		}
	}
}

// keyPolicyCommand shows or replaces a key's policy.
func keyPolicyCommand(io stdio) *cobra.Command {
	return group("policy", "The policy of a key", keyPolicyGetCommand(io), keyPolicyPutCommand(), keyPolicyEditCommand(io))
}

func keyPolicyGetCommand(io stdio) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "get KEY", Short: "Print a key's policy as it was put", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				document, err := keys.GetKeyPolicy(cmd.Context(), keymgr.Caller{}, arn, keymgr.PolicyName)
				if err == nil {
					_, err = fmt.Fprintln(io.out, strings.TrimSuffix(document, "\n"))
				}
				return err
			})
		},
	}
	store.addAs(cmd)
	return cmd
}

func keyPolicyPutCommand() *cobra.Command {
	var store storeFlags
	var bypass bool
	cmd := &cobra.Command{
		Use: "put KEY FILE", Short: "Replace a key's policy by the content of FILE", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := os.ReadFile(args[1])
			if err != nil {
				return fmt.Errorf("%w: read policy: %w", mount.ErrUsage, err)
			}
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				return keys.PutKeyPolicy(cmd.Context(), keymgr.Caller{}, arn, keymgr.PolicyName, string(document), bypass)
			})
		},
	}
	cmd.Flags().BoolVar(&bypass, "bypass-lockout-check", false, "also a policy under which you could not change it again")
	store.addAs(cmd)
	return cmd
}
