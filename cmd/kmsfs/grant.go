package main

import (
	"context"
	"errors"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// grantView is a grant as it is printed.
type grantView struct {
	ID         string            `json:"id"`
	Name       string            `json:"name,omitempty"`
	Grantee    string            `json:"grantee"`
	Retiring   string            `json:"retiring,omitempty"`
	Operations []string          `json:"operations"`
	Equals     map[string]string `json:"equals,omitempty"`
	Subset     map[string]string `json:"subset,omitempty"`
	Created    time.Time         `json:"created"`
	Expires    time.Time         `json:"expires,omitzero"`
}

func grantCommand(io stdio) *cobra.Command {
	return group("grant", "Grants: who may use a key beside what its policy says",
		grantCreateCommand(io),
		listCommand(io, listing[grantView]{
			use: "list KEY", short: "List the grants of a key", none: "the key has no grants", identities: true, rows: listGrants,
			columns: []column[grantView]{
				{"GRANT", func(g grantView) string { return g.ID }},
				{"GRANTEE", func(g grantView) string { return g.Grantee }},
				{"OPERATIONS", func(g grantView) string { return strings.Join(g.Operations, ",") }},
				{"NAME", func(g grantView) string { return g.Name }},
				{"UNTIL", func(g grantView) string { return since(g.Expires) }},
			},
		}),
		callCommand("revoke KEY ID", "End a grant", identities, revokeGrant),
		grantUseCommand(io))
}

func grantCreateCommand(io stdio) *cobra.Command {
	var store storeFlags
	var in keymgr.CreateGrantInput
	var equals, subset map[string]string
	var expires string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "create KEY --grantee ARN --operations LIST", Short: "Grant the use of a key, and print the grant's id and token", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in.Constraints = keymgr.GrantConstraints{Equals: equals, Subset: subset}
			if in.Expires, err = parseEnd(expires, time.Now()); err != nil {
				return err
			}
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) (err error) {
				if in.KeyID, err = keyARN(cmd.Context(), keys, args[0]); err != nil {
					return err
				}
				g, err := keys.CreateGrant(cmd.Context(), keymgr.Caller{}, in)
				if errors.Is(err, keymgr.ErrInvalidArn) {
					return &mount.Advice{Err: err, Next: "a user of this host is arn:aws:iam::000000000000:unix/user/NAME, an identity as kmsfs identity list --json has it"}
				}
				if err != nil {
					return err
				}
				v := struct {
					ID    string `json:"id"`
					Token string `json:"token"`
				}{g.ID, g.Token}
				return io.print(asJSON, v, func(w *tabwriter.Writer) { line(w, "grant", v.ID); line(w, "token", v.Token) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Grantee, "grantee", "", "`ARN` of who gets it, as arn:aws:iam::000000000000:unix/user/NAME")
	f.StringVar(&in.Retiring, "retiring", "", "`ARN` of who may retire it")
	f.StringVar(&in.Name, "name", "", "the same `NAME` and parameters make one grant")
	f.StringSliceVar(&in.Operations, "operations", nil, "`LIST` of operations, as Decrypt,Encrypt")
	f.StringToStringVar(&equals, "equals", nil, "only with this encryption context, as `NAME=VALUE`")
	f.StringToStringVar(&subset, "subset", nil, "only with an encryption context that has `NAME=VALUE`")
	f.StringVar(&expires, "expires", "", "when it ends: a duration from now (24h), or a `TIME` (2026-01-31T12:00:00Z); without, when it is revoked or retired")
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// listGrants reads the grants of the key that is named.
func listGrants(ctx context.Context, keys *mount.Keys, args []string) (all []grantView, err error) {
	arn, err := keyARN(ctx, keys, args[0])
	for page := (keymgr.Page{}); err == nil; {
		var list keymgr.GrantList
		list, err = keys.ListGrants(ctx, keymgr.Caller{}, arn, keymgr.GrantFilter{}, page)
		for _, g := range list.Grants {
			all = append(all, grantView{g.ID, g.Name, g.Grantee, g.Retiring, g.Operations, g.Constraints.Equals, g.Constraints.Subset, g.Created, g.Expires})
		}
		if page.Marker = list.NextMarker; page.Marker == "" {
			break
		}
	}
	return all, err
}

func revokeGrant(ctx context.Context, keys *mount.Keys, args []string) error {
	arn, err := keyARN(ctx, keys, args[0])
	if err != nil {
		return err
	}
	return keys.RevokeGrant(ctx, keymgr.Caller{}, arn, args[1], false)
}
