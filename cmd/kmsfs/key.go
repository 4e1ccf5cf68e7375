package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// keyView is a customer master key as it is printed.
type keyView struct {
	ID          string        `json:"id"`
	ARN         string        `json:"arn"`
	Aliases     []string      `json:"aliases"`
	Description string        `json:"description,omitempty"`
	State       string        `json:"state"`
	Manager     string        `json:"manager"`
	Origin      string        `json:"origin"`
	Created     time.Time     `json:"created"`
	Deletion    time.Time     `json:"deletion_date,omitzero"`
	Expiration  time.Time     `json:"material_valid_to,omitzero"`
	Versions    []versionView `json:"versions"`
}

type versionView struct {
	Number   uint32    `json:"number"`
	Material string    `json:"material_id"`
	Created  time.Time `json:"created"`
	MadeIn   string    `json:"made_in,omitempty"`
	Gone     time.Time `json:"destroyed,omitzero"`
}

func viewKey(k keymgr.KeyMetadata) keyView {
	v := keyView{ID: k.KeyID, ARN: k.ARN, Aliases: append([]string{}, k.Aliases...), Description: k.Description, State: k.State, Manager: k.Manager,
		Origin: k.Origin, Created: k.CreationDate, Deletion: k.DeletionDate, Expiration: k.ValidTo, Versions: []versionView{}}
	for _, ver := range k.Versions {
		v.Versions = append(v.Versions, versionView{ver.Number, ver.MaterialID, ver.Created, ver.MadeIn, ver.Destroyed})
	}
	return v
}

func keyCommand(io stdio) *cobra.Command {
	return group("key", "Customer master keys of a key store",
		keyCreateCommand(io),
		listCommand(io, listing[keyView]{
			use: "list", short: "List the keys", none: "no keys; kmsfs init and kmsfs key create make some", identities: true, rows: listKeys,
			columns: []column[keyView]{
				{"KEY", func(k keyView) string { return k.ID }},
				{"STATE", func(k keyView) string { return k.State }},
				{"ALIASES", func(k keyView) string { return strings.Join(k.Aliases, " ") }},
				{"DESCRIPTION", func(k keyView) string { return k.Description }},
			},
		}),
		keyDescribeCommand(io),
		callCommand("enable KEY", "Enable a key", identities, func(ctx context.Context, keys *mount.Keys, args []string) error { return keys.Enable(ctx, args[0]) }),
		callCommand("disable KEY", "Disable a key: what it wraps cannot be opened until it is enabled again", identities,
			func(ctx context.Context, keys *mount.Keys, args []string) error { return keys.Disable(ctx, args[0]) }),
		keyImportCommand(io), keyImportParametersCommand(io), keyDeleteMaterialCommand(),
		keyRotateCommand(), keyDestroyVersionCommand(io), keyDeleteCommand(io), keyPolicyCommand(io))
}

// withKeys runs fn with the key manager of the key store that the flags name.
func withKeys(ctx context.Context, store *storeFlags, fn func(*mount.Keys) error) error {
	keys, err := mount.OpenKeysAs(ctx, store.dir, store.secret, store.as)
	if err != nil {
		return err
	}
	defer keys.Close()
	return fn(keys)
}

func keyCreateCommand(io stdio) *cobra.Command {
	var store storeFlags
	var in keymgr.CreateKeyInput
	var policyFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "create", Short: "Create a key", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.Alias != "" && !strings.HasPrefix(in.Alias, "alias/") {
				in.Alias = "alias/" + in.Alias
			}
			if policyFile != "" {
				document, err := os.ReadFile(policyFile)
				if err != nil {
					return fmt.Errorf("%w: read policy: %w", mount.ErrUsage, err)
				}
				in.Policy = string(document)
			}
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				key, err := keys.CreateKey(cmd.Context(), keymgr.Caller{}, in)
				if err != nil {
					return err
				}
				return printKey(io, asJSON, key)
			})
		},
	}
	cmd.Flags().StringVar(&in.Alias, "alias", "", "`NAME` to give it")
	cmd.Flags().StringVar(&in.Origin, "origin", "", "`ORIGIN` of its material: AWS_KMS (made in the token, the default) or EXTERNAL (imported by key import)")
	cmd.Flags().StringVar(&policyFile, "policy", "", "its key policy, from `FILE`")
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for (`TEXT`)")
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func listKeys(ctx context.Context, keys *mount.Keys, _ []string) (all []keyView, err error) {
	err = keys.Each(ctx, func(k keymgr.KeyMetadata) { all = append(all, viewKey(k)) })
	return all, err
}

func keyDescribeCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "describe KEY", Short: "Describe a key, named by id, ARN or alias/NAME", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				key, err := keys.DescribeKey(cmd.Context(), keymgr.Caller{}, args[0])
				if err != nil {
					return err
				}
				return printKey(io, asJSON, key)
			})
		},
	}
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printKey(io stdio, asJSON bool, key keymgr.KeyMetadata) error {
	k := viewKey(key)
	return io.print(asJSON, k, func(w *tabwriter.Writer) {
		line(w, "key", k.ARN)
		line(w, "aliases", strings.Join(k.Aliases, " "))
		line(w, "description", k.Description)
		line(w, "state", k.State)
		line(w, "origin", k.Origin)
		line(w, "created", since(k.Created))
		line(w, "deleted on", since(k.Deletion))
		line(w, "material until", since(k.Expiration))
		for _, v := range k.Versions {
			from := ""
			if v.MadeIn != "" {
				from = ", made in a " + v.MadeIn + " token: it has been outside of this one"
			}
			if !v.Gone.IsZero() {
				from += ", destroyed on " + since(v.Gone)
			}
			line(w, fmt.Sprintf("version %d", v.Number), since(v.Created)+", material "+v.Material+from)
		}
	})
}
