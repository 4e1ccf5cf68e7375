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
		Use:                        "kmsfs",
		Short:                      "Encrypted directories whose keys live in an HSM",
		Long:                       "kmsfs mounts directories in which every file is encrypted under a key of its own, and whose master keys never leave an HSM (or an embedded key store).",
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       usage(cobra.NoArgs),
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Version:                    versionLine(mount.Version(version)),
	}
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { newHelpWriter(io.out).command(cmd) })
	root.CompletionOptions.DisableDefaultCmd = true
	for _, name := range []string{groupVolumes, groupFiles, groupRotation, groupKeys, groupAudit, groupMore} {
		root.AddGroup(&cobra.Group{ID: name, Title: name})
	}
	addTo(root, groupVolumes, initCommand(io), mountCommand(io), umountCommand(), statusCommand(io), fsckCommand(io), rebuildCommand(io), backupCommand(io), restoreCommand(io))
	addTo(root, groupFiles, infoCommand(io), importCommand(io), exportCommand(io), shredCommand(io), policyCommand(io), lockCommand(), unlockCommand(), explainCommand(io))
	addTo(root, groupRotation, rewrapCommand(io), reencryptCommand(io), jobsCommand(io), censusCommand(io))
	addTo(root, groupKeys, keystoreCommand(io), keyCommand(io), aliasCommand(io), grantCommand(io), identityCommand(io), approvalCommand(io), breakGlassCommand(io), keydCommand(io))
	addTo(root, groupAudit, auditCommand(io))
	addTo(root, groupMore, versionCommand(io), completionCommand(io), manCommand(io))
	root.AddCommand(workerCommand(), mountDaemonCommand(), removeHelperCommand())
	root.SetHelpCommand(helpCommand())
	addExamples(root)
	complete(root)
	return root
}

func addTo(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
	}
	root.AddCommand(commands...)
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, SuggestionsMinimumDistance: 2, Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
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
				fmt.Fprintln(w, versionLine(v))
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func versionLine(v mount.VersionInfo) string {
	return fmt.Sprintf("kmsfs %s (format %d, %s, %s)", v.Version, v.Format, v.Go, v.Platform)
}

func jsonFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "json", false, "print JSON")
}
