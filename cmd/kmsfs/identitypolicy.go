package main

import (
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
	return group("policy", "Policies of an identity", identityPolicyPutCommand(), identityPolicyGetCommand(io), identityPolicyRemoveCommand())
}

func identityPolicyPutCommand() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "put NAME POLICY FILE", Short: "Attach a policy, or replace the one of that name", Args: usage(cobra.ExactArgs(3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := os.ReadFile(args[2])
			if err != nil {
				return fmt.Errorf("%w: read policy: %w", mount.ErrUsage, err)
			}
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return keys.PutIdentityPolicy(cmd.Context(), keymgr.Caller{}, args[0], args[1], string(document))
			})
		},
	}
	store.add(cmd)
	return cmd
}

func identityPolicyGetCommand(io stdio) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "get NAME POLICY", Short: "Print a policy as it was put", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				document, err := keys.GetIdentityPolicy(cmd.Context(), keymgr.Caller{}, args[0], args[1])
				if err == nil {
					_, err = fmt.Fprintln(io.out, strings.TrimRight(document, "\n"))
				}
				return err
			})
		},
	}
	store.add(cmd)
	return cmd
}

func identityPolicyRemoveCommand() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "rm NAME POLICY", Short: "Take a policy away", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return keys.DeleteIdentityPolicy(cmd.Context(), keymgr.Caller{}, args[0], args[1])
			})
		},
	}
	store.add(cmd)
	return cmd
}
