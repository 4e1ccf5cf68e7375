package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount"
)

// importFlags say what is imported: a key in clear, or one that was wrapped elsewhere with what `key import-parameters` wrote.
type importFlags struct {
	material, token, wrapped, spec string
	lasts                          time.Duration
}

// keyImportCommand brings key material into a key of origin EXTERNAL.
func keyImportCommand(io stdio) *cobra.Command {
	var store storeFlags
	var from importFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "import KEY", Short: "Import the material of a key of origin EXTERNAL; keep a copy of it", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (from.material == "") == (from.token == "" && from.wrapped == "") || (from.token == "") != (from.wrapped == "") || from.lasts < 0 {
				return fmt.Errorf("%w: --material-file alone, or --wrapped-file with --token-file; --valid-for a time from now", mount.ErrUsage)
			}
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				in := keymgr.ImportInput{KeyID: arn, Model: keymgr.DoesntExpire}
				if from.lasts > 0 {
					in.Model, in.ValidTo = keymgr.Expires, time.Now().Add(from.lasts)
				}
				id, err := from.bring(cmd, keys, in)
				if err != nil {
					return err
				}
				v := struct {
					Key      string    `json:"key"`
					Material string    `json:"material_id"`
					ValidTo  time.Time `json:"valid_to,omitzero"`
				}{arn, id, in.ValidTo}
				return io.print(asJSON, v, func(w *tabwriter.Writer) {
					line(w, "key", v.Key)
					line(w, "material", v.Material)
					line(w, "material until", since(v.ValidTo))
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from.material, "material-file", "", "`FILE` with an AES-256 key, 32 bytes or 64 hexadecimal digits; it is wrapped here")
	f.StringVar(&from.wrapped, "wrapped-file", "", "`FILE` with the key as it was wrapped elsewhere (key import-parameters)")
	f.StringVar(&from.token, "token-file", "", "`FILE` with the import token that goes with the wrapping key")
	f.StringVar(&from.spec, "spec", mount.WrappingKeySpec, "`SPEC` of what it is wrapped by here: RSA_2048, RSA_3072 or RSA_4096")
	f.DurationVar(&from.lasts, "valid-for", 0, "how long the material may be used (`DURATION`); without, until it is deleted")
	store.addAs(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (f *importFlags) bring(cmd *cobra.Command, keys *mount.Keys, in keymgr.ImportInput) (id string, err error) {
	if f.material != "" {
		material, err := mount.ReadKeyMaterial(f.material)
		if err != nil {
			return "", err
		}
		defer material.Close()
		return keys.ImportMaterial(cmd.Context(), in, f.spec, material)
	}
	if in.Token, err = os.ReadFile(f.token); err == nil {
		in.Encrypted, err = os.ReadFile(f.wrapped)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", mount.ErrUsage, err)
	}
	return keys.ImportKeyMaterial(cmd.Context(), keymgr.Caller{}, in)
}

// keyImportParametersCommand writes what somebody elsewhere wraps material by.
func keyImportParametersCommand(io stdio) *cobra.Command {
	var store storeFlags
	var public, token, algorithm, spec string
	cmd := &cobra.Command{
		Use: "import-parameters KEY --public-key FILE --token-file FILE", Short: "Write a wrapping key (DER) and its import token, to wrap material on another machine", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if public == "" || token == "" {
				return fmt.Errorf("%w: --public-key and --token-file name the files to write", mount.ErrUsage)
			}
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				p, err := keys.GetParametersForImport(cmd.Context(), keymgr.Caller{}, arn, algorithm, spec)
				if err != nil {
					return err
				}
				if err := writeNew(public, p.PublicKey); err != nil {
					return err
				}
				if err := writeNew(token, p.Token); err != nil {
					return err
				}
				_, err = fmt.Fprintf(io.err, "good until %s; kmsfs key import %s --token-file %s --wrapped-file FILE\n", since(p.ValidTo), args[0], quote(token))
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&public, "public-key", "", "write the wrapping key to `FILE`")
	f.StringVar(&token, "token-file", "", "write the import token to `FILE`")
	f.StringVar(&algorithm, "algorithm", mount.WrappingAlgorithm, "wrap by `ALGORITHM`: RSAES_OAEP_SHA_256 or RSAES_OAEP_SHA_1")
	f.StringVar(&spec, "spec", mount.WrappingKeySpec, "`SPEC` of the wrapping key: RSA_2048, RSA_3072 or RSA_4096")
	store.addAs(cmd)
	return cmd
}

// writeNew writes a file that is not there yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", mount.ErrUsage, err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// keyDeleteMaterialCommand takes imported material out of the token.
func keyDeleteMaterialCommand() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: "delete-material KEY", Short: "Destroy a key's imported material; importing the same again makes it usable again", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeyARN(cmd.Context(), &store, args[0], func(keys *mount.Keys, arn string) error {
				return keys.DeleteImportedKeyMaterial(cmd.Context(), keymgr.Caller{}, arn)
			})
		},
	}
	store.addAs(cmd)
	return cmd
}
