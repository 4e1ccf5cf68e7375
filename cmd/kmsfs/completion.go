package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// completeWithin bounds how long a shell waits for names.
const completeWithin = 2 * time.Second

func completionCommand(io stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print a script that completes kmsfs' command line in a shell", GroupID: groupMore,
		Long:      "Prints a script by which a shell completes commands, options, mount points, and the names of keys while the key daemon runs.",
		Args:      usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(io.out, true)
			case "zsh":
				return root.GenZshCompletion(io.out)
			}
			return root.GenFishCompletion(io.out, true)
		},
	}
	return cmd
}

// choices are the options that take one of a few words.
var choices = map[string][]string{
	"token":         {"soft", "pkcs11"},
	"compression":   {"none", "s2", "zstd"},
	"audit":         {"denied", "access", "full"},
	"audit-failure": {mount.AuditRefuse, mount.AuditContinue},
	"origin":        {"AWS_KMS", "EXTERNAL"},
	"action":        {"List", "Read", "Write", "Create", "Delete", "Rename", "SetAttr", "Admin"},
	"decision":      {"allow", "deny"},
	"format":        {"jsonl", "cef", "cloudtrail"},
	"role":          {"key-admin", "operator", "user", "auditor"},
	"spec":          {"RSA_2048", "RSA_3072", "RSA_4096"},
	"algorithm":     {"RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"},
}

// complete teaches a command and all below what their arguments and options may be: the names in its usage line say what is meant.
func complete(cmd *cobra.Command) {
	for name, words := range choices {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // it is there, and has none yet
		}
	}
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = completeOperand
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

// completeOperand offers what the next operand of the usage line may be.
func completeOperand(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := strings.Fields(operands(cmd))
	if len(args) >= len(names) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	switch name := strings.Trim(names[len(args)], "[]"); {
	case name == "MOUNTPOINT" && cmd.Name() != "mount":
		return mountPoints(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	case name == "KEY" || name == "ID" && strings.HasPrefix(cmd.CommandPath(), "kmsfs key "):
		return keyNames(cmd), cobra.ShellCompDirectiveNoFileComp
	case name == "ID" || name == "NAME" || name == "TOKEN|-":
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault // a path
}

func mountPoints(ctx context.Context) (names []string) {
	mounts, err := mount.Status(ctx)
	if err != nil {
		return nil
	}
	for _, m := range mounts {
		names = append(names, m.MountPoint)
	}
	return names
}

// keyNames asks a key daemon that runs and is unlocked; a shell cannot ask for a secret.
func keyNames(cmd *cobra.Command) (names []string) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	dir, _ := cmd.Flags().GetString("keystore") // "" means the default
	if st, err := mount.KeyStoreStatus(ctx, dir); err != nil || st.State != "unlocked" {
		return nil
	}
	keys, err := mount.OpenKeysAs(ctx, dir, mount.SecretSource{}, mount.IdentitySource{})
	if err != nil {
		return nil
	}
	defer keys.Close()
	_ = keys.Each(ctx, func(k keymgr.KeyMetadata) { // what was found until then is offered
		names = append(append(names, k.Aliases...), k.KeyID)
	})
	return names
}
