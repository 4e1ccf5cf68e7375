package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

// tokenFlags say which token a new key store uses.
type tokenFlags struct{ mount.TokenConfig }

func (f *tokenFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Kind, "token", "", "`KIND` of token of a new key store: soft (embedded, the default) or pkcs11")
	flags.StringVar(&f.KeyManager, "keymanager", "", "`WHERE` the keys are, in the place of a token: local (the default), aws-kms://REGION or kmsfs://HOST:PORT, with ?forward=users to tell it for which user it is asked")
	flags.StringVar(&f.Module, "pkcs11-module", "", "PKCS#11 module, the path of a shared `LIBRARY`")
	flags.StringVar(&f.Label, "pkcs11-token", "", "`LABEL` of the token")
}

func initCommand(io stdio) *cobra.Command {
	var store storeFlags
	var token tokenFlags
	var asJSON, managed bool
	var blockSize, compression string
	cmd := &cobra.Command{
		Use:   "init VOLUME",
		Short: "Make a volume, and the key store if there is none",
		Long: "Makes VOLUME, a new or empty directory, into an encrypted volume with a customer master key of its own, alias/NAME-OF-VOLUME,\n" +
			"or under one that the service manages (--managed-key).\n" +
			"A key store is made where there is none; a key file named by --key-file too.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := mount.Init(cmd.Context(), mount.InitConfig{
				Volume: args[0], KeyStore: store.dir, Secret: store.secret, Token: token.TokenConfig, Managed: managed,
				BlockSize: blockSize, Compression: compression,
			})
			if err != nil {
				return err
			}
			return io.print(asJSON, made, func(w *tabwriter.Writer) { explainInit(w, made, store) })
		},
	}
	store.add(cmd)
	token.add(cmd)
	cmd.Flags().StringVar(&blockSize, "block-size", "", "`SIZE` of the blocks of files, a power of two from 4K to 1M (default 4K, with compression 128K)")
	cmd.Flags().BoolVar(&managed, "managed-key", false, "use the key alias/kmsfs/files, which the service manages for all such volumes, instead of a key of its own")
	cmd.Flags().StringVar(&compression, "compression", "", "`ALGORITHM` that compresses files: none (the default), s2 or zstd, with a level as in zstd:9")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// explainInit says what was made and what to keep safe.
func explainInit(w *tabwriter.Writer, made mount.InitResult, store storeFlags) {
	line(w, "volume", made.Volume)
	line(w, "volume id", made.ID)
	line(w, "key", made.Alias+" ("+made.KeyID+")")
	place := made.KeyStore
	if made.NewKeyStore {
		place += " (new)"
	}
	line(w, "key store", place)
	line(w, "token", made.Token)
	if made.NewKeyFile {
		line(w, "key file", made.KeyFile+" (new)")
	}
	fmt.Fprintf(w, "\nKeep safe, apart from the volume and with a copy elsewhere: the key store %s and its %s.\n", made.KeyStore, made.SecretName)
	fmt.Fprintf(w, "Without both nobody can read the volume, and nobody can help. The volume's own directory may be copied anywhere.\n")
	fmt.Fprintf(w, "Next: mkdir MOUNTPOINT; kmsfs mount %s MOUNTPOINT%s\n", quote(made.Volume), store.again())
}
