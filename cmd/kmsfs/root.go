package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

// rootCommand builds the whole command tree.
func rootCommand(io stdio) *cobra.Command {
	root := &cobra.Command{
		Use:           "kmsfs",
		Short:         "Encrypted directories whose keys live in an HSM",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", mount.ErrUsage, err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		initCommand(io), mountCommand(io), umountCommand(io), statusCommand(io), infoCommand(io), fsckCommand(io), rewrapCommand(io), shredCommand(io),
		rebuildCommand(io), backupCommand(io), restoreCommand(io),
		reencryptCommand(io), jobsCommand(io), censusCommand(io), importCommand(io), exportCommand(io),
		policyCommand(io), lockCommand(), unlockCommand(), explainCommand(io),
		keystoreCommand(io), keyCommand(io), aliasCommand(io), grantCommand(io), identityCommand(io), approvalCommand(io), breakGlassCommand(io), auditCommand(io), keydCommand(io), workerCommand(), mountDaemonCommand(), versionCommand(io),
	)
	return root
}

// usage makes a wrong number of arguments a usage error.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return fmt.Errorf("%w: %w (%s)", mount.ErrUsage, err, cmd.UseLine())
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: usage(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(subs...)
	return cmd
}

func versionCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Say which kmsfs this is", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := mount.Version(version)
			return io.print(asJSON, v, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "kmsfs %s (format %d, %s, %s)\n", v.Version, v.Format, v.Go, v.Platform)
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func jsonFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "json", false, "print JSON")
}
