package main

import (
	"context"
	"strings"

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
		callCommand("delete NAME", "Remove a name; its key stays", identities, func(ctx context.Context, keys *mount.Keys, args []string) error {
			return keys.DeleteAlias(ctx, keymgr.Caller{}, aliasName(args[0]))
		}),
		listCommand(io, listing[aliasView]{
			use: "list", short: "List the names", none: "no key has a name", identities: true, rows: aliases,
			columns: []column[aliasView]{{"ALIAS", func(a aliasView) string { return a.Name }}, {"KEY", func(a aliasView) string { return a.Key }}},
		}))
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
	return callCommand(use, short, identities, func(ctx context.Context, keys *mount.Keys, args []string) error {
		arn, err := keyARN(ctx, keys, args[1])
		if err != nil {
			return err
		}
		return do(keys, ctx, keymgr.Caller{}, aliasName(args[0]), arn)
	})
}

func aliases(ctx context.Context, keys *mount.Keys, _ []string) (all []aliasView, err error) {
	for page := (keymgr.Page{}); ; {
		list, err := keys.ListAliases(ctx, keymgr.Caller{}, "", page)
		for _, a := range list.Aliases {
			all = append(all, aliasView{a.Name, a.ARN, a.TargetKeyID})
		}
		if page.Marker = list.NextMarker; err != nil || page.Marker == "" {
			return all, err
		}
	}
}
