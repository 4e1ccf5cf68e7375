package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func keystoreCommand(io stdio) *cobra.Command {
	return group("keystore", "Make, unlock and look at a key store",
		keystoreInitCommand(io), keystoreStatusCommand(io), keystoreUnlockCommand(io), keystoreLockCommand(io), keystorePasswdCommand(),
		keystoreBackupCommand(io), keystoreRestoreCommand(io), keystoreMigrateCommand(io))
}

func keystoreInitCommand(io stdio) *cobra.Command {
	var store storeFlags
	var token tokenFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make a key store", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := mount.InitKeyStore(cmd.Context(), store.dir, store.secret, token.TokenConfig)
			if err != nil {
				return err
			}
			return io.print(asJSON, made, func(w *tabwriter.Writer) {
				line(w, "key store", made.KeyStore+" (new)")
				if made.NewKeyFile {
					line(w, "key file", made.KeyFile+" (new)")
				}
				fmt.Fprintf(w, "\nKeep safe, with a copy elsewhere: a backup of the key store (kmsfs keystore backup FILE, after every change that matters) and its %s.\n"+
					"Without both, what its keys have encrypted is lost.\n", made.SecretName)
			})
		},
	}
	store.add(cmd)
	token.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func keystoreStatusCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Say what the key store and its token are, and whether they answer", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := mount.KeyStoreStatus(cmd.Context(), store.dir)
			if err != nil {
				return err
			}
			return io.print(asJSON, st, func(w *tabwriter.Writer) {
				line(w, "key store", quote(st.KeyStore)+" ("+st.ID+")")
				line(w, "opens by", st.Unlock)
				line(w, "state", st.State)
				if st.PID != 0 {
					line(w, "daemon", fmt.Sprintf("process %d since %s", st.PID, since(st.Started)))
				}
				line(w, "listens on", listens(st))
				line(w, "token", st.Token)
				line(w, "imported keys", imports(st))
				line(w, "audit log", quote(st.KeyUseLog))
				line(w, "last backup", keyStoreBackup(st.Backup))
				if st.Approvers > 0 {
					line(w, "approval", fmt.Sprintf("on, %d approvers", st.Approvers))
				}
				line(w, "break-glass", st.BreakGlass)
				line(w, "problem", st.Problem)
				for _, id := range st.Volumes {
					line(w, "mounted volume", id)
				}
			})
		},
	}
	store.addDir(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// imports says whether the token takes keys from outside.
func imports(st mount.KeyStoreState) string {
	switch {
	case st.State != "unlocked":
		return ""
	case st.Imports:
		return "taken"
	}
	return "not taken by this token"
}

// listens is where signed requests are answered, as clients take it.
func listens(st mount.KeyStoreState) string {
	switch {
	case st.Listen == "":
		return ""
	case st.TLS:
		return "https://" + st.Listen
	}
	return "http://" + st.Listen
}

func keystoreUnlockCommand(io stdio) *cobra.Command {
	var store storeFlags
	var acceptRestore bool
	cmd := &cobra.Command{
		Use: "unlock", Short: "Unlock the key store, and start its daemon if none runs", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return mount.UnlockKeyStore(cmd.Context(), store.dir, store.secret, acceptRestore)
		},
	}
	cmd.Flags().BoolVar(&acceptRestore, "accept-restore", false, "accept a key store that is older than its token knows, after a wanted restore; it is recorded")
	store.add(cmd)
	return cmd
}

func keystoreLockCommand(io stdio) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "lock", Short: "End the key daemon, if no volume is mounted: no key stays in memory", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return mount.LockKeyStore(cmd.Context(), store.dir) },
	}
	store.addDir(cmd)
	return cmd
}

func keystorePasswdCommand() *cobra.Command {
	var store storeFlags
	var fresh storeFlags
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "Change the passphrase or key file of an embedded token, while its daemon does not run",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fresh.secret.Prompt = prompter(cmd.Context())
			return mount.ChangeSecret(cmd.Context(), store.dir, store.secret, fresh.secret)
		},
	}
	store.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&fresh.secret.PassphraseFile, "new-passphrase-file", "", "read the new passphrase from `FILE`")
	flags.StringVar(&fresh.secret.KeyFile, "new-key-file", "", "open the key store by the content of `FILE` from now on, which is made if it is not there")
	flags.IntVar(&fresh.secret.FD, "new-passphrase-fd", 0, "read the new passphrase from descriptor `N`")
	return cmd
}

func keystoreBackupCommand(io stdio) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write a backup of the key store to a new file, sealed and authenticated", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := mount.BackupKeyStore(cmd.Context(), store.dir, store.secret, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(io.err, "%s opens by the secret of the key store (of an HSM: with its token, which is not in it). Keep it apart from both.\n", quote(args[0]))
			return err
		},
	}
	store.add(cmd)
	return cmd
}

func keystoreRestoreCommand(io stdio) *cobra.Command {
	var store storeFlags
	var acceptRestore bool
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make a key store out of a backup", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := mount.RestoreKeyStore(cmd.Context(), store.dir, store.secret, args[0], acceptRestore); err != nil {
				return err
			}
			_, err := fmt.Fprintln(io.err, "What was changed in the key store after the backup is not in it: look at grants, policies and disabled keys.")
			return err
		},
	}
	store.add(cmd)
	cmd.Flags().BoolVar(&acceptRestore, "accept-restore", false, "accept a backup that is older than its token knows, and volumes that have gone on since; it is recorded")
	return cmd
}
