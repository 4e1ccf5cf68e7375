package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func keystoreMigrateCommand(io stdio) *cobra.Command {
	var store, fresh storeFlags
	var token tokenFlags
	var auditDir string
	cmd := &cobra.Command{
		Use: "migrate", Short: "Move a key store to a PKCS#11 token, while its daemon does not run", Args: usage(cobra.NoArgs),
		Long: "Moves a key store with an embedded token to a PKCS#11 token, or to another PKCS#11 token that has the same keys already. Volumes and blobs stay as they are.\n" +
			"Keys that come from an embedded token have been outside of the HSM, and stay on its copies: each gets a new version in the HSM, for what is encrypted from then on.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			fresh.secret.Prompt = prompter(cmd.Context())
			out, err := mount.MigrateKeyStore(cmd.Context(), store.dir, store.secret, token.TokenConfig, fresh.secret, auditDir)
			if err != nil {
				return err
			}
			fmt.Fprintf(io.err, "%d backing keys are in the new token. The key store as it was is %s, its audit log %s.\n", out.Keys, quote(out.Old), quote(out.Log))
			if out.Moved {
				fmt.Fprint(io.err, "They were made outside of it: whoever has a copy of the embedded token and its secret has them, too. New data is under new versions that were made in the token.\n"+
					"Next: try a mount; kmsfs rewrap VOLUME; kmsfs reencrypt VOLUME; keep the old key store's audit log, and destroy its token directory and its backups.\n")
			}
			return nil
		},
	}
	store.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&token.Module, "pkcs11-module", "", "PKCS#11 module of the new token, the path of a shared `LIBRARY`")
	flags.StringVar(&token.Label, "pkcs11-token", "", "`LABEL` of the new token")
	flags.StringVar(&auditDir, "audit-dir", "", "begin the new audit log in `DIR`, new or empty; needed where the present one is not in the key store")
	flags.StringVar(&fresh.secret.PINFile, "new-pin-file", "", "read the new token's PIN from `FILE`")
	flags.StringVar(&fresh.secret.Credential, "new-credential", "", "the new token's PIN is the systemd credential `NAME`")
	return cmd
}
