package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

func identityMapCommand() *cobra.Command {
	var store storeFlags
	var remove bool
	cmd := &cobra.Command{
		Use: "map uid:N NAME", Short: "Give a user of this host the role and policies of an identity", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, ok := strings.CutPrefix(args[0], "uid:")
			uid, err := strconv.ParseUint(number, 10, 32)
			if !ok || err != nil {
				return fmt.Errorf("%w: %q is not uid:N", mount.ErrUsage, args[0])
			}
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return keys.MapIdentity(cmd.Context(), keymgr.Caller{}, args[1], uint32(uid), remove)
			})
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take them away again")
	store.add(cmd)
	return cmd
}

func identityPolicyCommand(io stdio) *cobra.Command {
	return group("policy", "Policies of an identity",
		callCommand("put NAME POLICY FILE", "Attach a policy, or replace the one of that name", ownerOnly, func(ctx context.Context, keys *mount.Keys, args []string) error {
			document, err := os.ReadFile(args[2])
			if err != nil {
				return fmt.Errorf("%w: read policy: %w", mount.ErrUsage, err)
			}
			return keys.PutIdentityPolicy(ctx, keymgr.Caller{}, args[0], args[1], string(document))
		}),
		callCommand("get NAME POLICY", "Print a policy as it was put", ownerOnly, func(ctx context.Context, keys *mount.Keys, args []string) error {
			document, err := keys.GetIdentityPolicy(ctx, keymgr.Caller{}, args[0], args[1])
			if err == nil {
				_, err = fmt.Fprintln(io.out, strings.TrimRight(document, "\n"))
			}
			return err
		}),
		callCommand("rm NAME POLICY", "Take a policy away", ownerOnly, func(ctx context.Context, keys *mount.Keys, args []string) error {
			return keys.DeleteIdentityPolicy(ctx, keymgr.Caller{}, args[0], args[1])
		}))
}
