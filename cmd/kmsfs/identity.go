package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// identityKeyView is an access key as it is printed, this once, under AWS' names.
type identityKeyView struct {
	ARN         string `json:"Arn"`
	AccessKeyID string `json:"AccessKeyId"`
	Secret      string `json:"SecretAccessKey"`

	Until time.Time `json:"Until,omitzero"` // of break-glass
}

func viewAccessKey(k keymgr.IdentityKey) identityKeyView {
	return identityKeyView{ARN: k.ARN, AccessKeyID: k.AccessKeyID, Secret: k.Secret}
}

// identityFileView says where an access key is that went to a file.
type identityFileView struct {
	ARN         string `json:"Arn"`
	AccessKeyID string `json:"AccessKeyId"`
	File        string `json:"File"`

	Until time.Time `json:"Until,omitzero"`
}

// identityView is an identity as it is printed.
type identityView struct {
	Name        string    `json:"name"`
	ARN         string    `json:"arn"`
	AccessKeyID string    `json:"access_key_id"`
	Admin       bool      `json:"admin"`
	Disabled    bool      `json:"disabled"`
	Created     time.Time `json:"created"`
	Role        string    `json:"role,omitempty"`
	Policies    []string  `json:"policies,omitempty"`
	UIDs        []uint32  `json:"uids,omitempty"`
}

func identityCommand(io stdio) *cobra.Command {
	return group("identity", "Identities that sign requests to keyd --listen",
		identityKeyCommand(io, "create NAME", "Create an identity and print its access key, this once", true),
		listCommand(io, listing[identityView]{
			use: "list", short: "List the identities", none: "no identities", rows: listIdentities,
			columns: []column[identityView]{
				{"IDENTITY", func(i identityView) string { return i.Name }},
				{"ACCESS KEY", func(i identityView) string { return i.AccessKeyID }},
				{"STATE", identityState},
				{"CREATED", func(i identityView) string { return since(i.Created) }},
			},
		}),
		callCommand("disable NAME", "Refuse an identity's requests", ownerOnly, func(ctx context.Context, keys *mount.Keys, args []string) error {
			return keys.DisableIdentity(ctx, keymgr.Caller{}, args[0], false)
		}),
		callCommand("enable NAME", "Accept a disabled identity's requests again", ownerOnly, func(ctx context.Context, keys *mount.Keys, args []string) error {
			return keys.DisableIdentity(ctx, keymgr.Caller{}, args[0], true)
		}),
		callCommand("delete NAME", "Delete an identity, for good", ownerOnly, func(ctx context.Context, keys *mount.Keys, args []string) error {
			return keys.DeleteIdentity(ctx, keymgr.Caller{}, args[0])
		}),
		identityKeyCommand(io, "rotate-key NAME", "Give an identity another access key and print it, this once; the old one ends", false),
		identityMapCommand(), identityPolicyCommand(io))
}

// identityKeyCommand is create or rotate-key.
func identityKeyCommand(io stdio, use, short string, create bool) *cobra.Command {
	var store storeFlags
	var admin bool
	var role string
	var out keyOut
	cmd := &cobra.Command{
		Use: use, Short: short, Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if role != "" && admin {
				return fmt.Errorf("%w: --role or --admin", mount.ErrUsage)
			}
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				again := "kmsfs identity rotate-key " + quote(args[0]) + " --out FILE gives the identity another one"
				return out.give(io, again, func() (identityKeyView, error) {
					k, err := makeKey(cmd.Context(), keys, args[0], create, role, admin)
					return viewAccessKey(k), err
				})
			})
		},
	}
	if create {
		cmd.Flags().StringVar(&role, "role", "", "give it a `ROLE`: key-admin, operator, user or auditor")
		cmd.Flags().BoolVar(&admin, "admin", false, "may do whatever key policies leave to the account")
	}
	store.add(cmd)
	out.add(cmd)
	return cmd
}

// makeKey makes an identity, or gives one another access key.
func makeKey(ctx context.Context, keys *mount.Keys, name string, create bool, role string, admin bool) (keymgr.IdentityKey, error) {
	switch {
	case create && role != "":
		return keys.CreateIdentityAs(ctx, keymgr.Caller{}, name, role)
	case create:
		return keys.CreateIdentity(ctx, keymgr.Caller{}, name, admin)
	}
	return keys.RotateIdentityKey(ctx, keymgr.Caller{}, name)
}

func listIdentities(ctx context.Context, keys *mount.Keys, _ []string) (all []identityView, err error) {
	list, err := keys.ListIdentities(ctx, keymgr.Caller{})
	for _, i := range list {
		all = append(all, identityView(i))
	}
	return all, err
}

func identityState(i identityView) string {
	state := "enabled"
	if i.Disabled {
		state = "disabled"
	}
	if i.Admin {
		state += ", admin"
	}
	if i.Role != "" {
		state += ", " + i.Role
	}
	return state
}
