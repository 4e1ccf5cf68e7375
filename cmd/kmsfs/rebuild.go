package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func rebuildCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cfg := mount.RebuildConfig{}
	cmd := &cobra.Command{
		Use:   "rebuild VOLUME",
		Short: "Make damaged or lost metadata anew",
		Long: "Makes VOLUME/meta anew from the metadata export and the journal, where it is damaged, was tampered with or is gone; the volume must not be mounted.\n" +
			"It ends with the state that the key store knows, or changes nothing. The old directory is kept as VOLUME/meta.damaged.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Volume, cfg.KeyStore, cfg.Secret = args[0], store.dir, store.secret
			bar := io.bar(asJSON)
			res, err := mount.Rebuild(cmd.Context(), cfg, bar.show)
			bar.clear()
			if err != nil {
				return err
			}
			return io.print(asJSON, res, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "%d rows from the export, %d records from the journal\n", res.Rows, res.Replayed)
				if res.Lost != "" {
					fmt.Fprintf(w, "what came after record %d is lost: %s\n", res.Exported, res.Lost)
				}
				if res.Damaged != "" {
					fmt.Fprintf(w, "the old metadata lies in %s; remove it when you have seen that the files are right\n", res.Damaged)
				}
			})
		},
	}
	store.add(cmd)
	cmd.Flags().BoolVar(&cfg.AcceptLoss, "accept-loss", false, "go back to the end of the export where nothing newer can be had; recorded as a restore")
	jsonFlag(cmd, &asJSON)
	return cmd
}
