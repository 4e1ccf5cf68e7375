package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// aliasView is an alias as it is printed.
type aliasView struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
	Key  string `json:"key_id"`
}

func aliasCommand(io stdio) *cobra.Command {
	return group("alias", "Names of keys",
		aliasSetCommand("create NAME KEY", "Give a key another name", (*mount.Keys).CreateAlias),
		aliasSetCommand("update NAME KEY", "Give a name to another key", (*mount.Keys).UpdateAlias),
		aliasDeleteCommand(), aliasListCommand(io))
}

// aliasName adds the prefix that the service asks for.
func aliasName(name string) string {
	if strings.HasPrefix(name, "alias/") {
		return name
	}
	return "alias/" + name
}

// keyARN finds a key by id, ARN or alias: the service itself takes no alias in most operations.
func keyARN(ctx context.Context, keys *mount.Keys, name string) (string, error) {
	key, err := keys.DescribeKey(ctx, keymgr.Caller{}, name)
	return key.ARN, err
}

func aliasSetCommand(use, short string, do func(*mount.Keys, context.Context, keymgr.Caller, string, string) error) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				arn, err := keyARN(cmd.Context(), keys, args[1])
				if err != nil {
					return err
				}
				return do(keys, cmd.Context(), keymgr.Caller{}, aliasName(args[0]), arn)
			})
		},
	}
	store.addAs(cmd)
	return cmd
}

func aliasDeleteCommand() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Remove a name; its key stays", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				return keys.DeleteAlias(cmd.Context(), keymgr.Caller{}, aliasName(args[0]))
			})
		},
	}
	store.addAs(cmd)
	return cmd
}

func aliasListCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the names", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []aliasView{}
			err := withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				for page := (keymgr.Page{}); ; {
					list, err := keys.ListAliases(cmd.Context(), keymgr.Caller{}, "", page)
					for _, a := range list.Aliases {
						all = append(all, aliasView{a.Name, a.ARN, a.TargetKeyID})
					}
					if page.Marker = list.NextMarker; err != nil || page.Marker == "" {
						return err
					}
				}
			})
			if err != nil {
				return err
			}
			return io.print(asJSON, all, func(w *tabwriter.Writer) {
				fmt.Fprintln(w, "ALIAS\tKEY")
				for _, a := range all {
					fmt.Fprintf(w, "%s\t%s\n", a.Name, a.Key)
				}
			})
		},
	}
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}
