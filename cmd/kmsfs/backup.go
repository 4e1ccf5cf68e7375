package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func backupCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cfg := mount.BackupConfig{}
	cmd := &cobra.Command{
		Use:   "backup VOLUME|MOUNTPOINT TARGET",
		Short: "Copy a volume, mounted or not, as it is at one moment",
		Long: "Makes a backup in TARGET, a new or empty directory, or brings the one that is there up to date: only what has changed is copied.\n" +
			"It is ciphertext, needs the volume's key alone, and is whole at any time: an interrupted run leaves the backup as it was.",
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Source, cfg.Target, cfg.KeyStore, cfg.Secret = args[0], args[1], store.dir, store.secret
			bar := io.bar(asJSON)
			res, err := mount.Backup(cmd.Context(), cfg, bar.show)
			bar.clear()
			if err != nil {
				return err
			}
			err = io.print(asJSON, res, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "run %d: %s in %d blocks and %d rows copied\n", res.Run, size(res.Bytes), res.Blocks, res.Rows)
				for _, d := range res.Damaged {
					fmt.Fprintf(w, "inode %d block %d: damaged in the volume\n", d.Inode, d.Block)
				}
			})
			if err == nil && len(res.Damaged) > 0 {
				err = fmt.Errorf("%w: %d blocks", mount.ErrFaults, len(res.Damaged))
			}
			return err
		},
	}
	store.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func restoreCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cfg := mount.RestoreConfig{}
	cmd := &cobra.Command{
		Use:   "restore BACKUP VOLUME",
		Short: "Make a volume of a backup",
		Long: "Makes VOLUME, a new or empty directory, into the volume that BACKUP is of, and compares every block. If the key store knows a later state,\n" +
			"the volume is mounted with --accept-restore once, which is recorded.",
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Backup, cfg.Volume, cfg.KeyStore, cfg.Secret = args[0], args[1], store.dir, store.secret
			bar := io.bar(asJSON)
			res, err := mount.Restore(cmd.Context(), cfg, bar.show)
			bar.clear()
			if err != nil {
				return err
			}
			err = io.print(asJSON, res, func(w *tabwriter.Writer) {
				fmt.Fprintf(w, "%d rows and %s restored to %s\n", res.Rows, size(res.Bytes), res.Volume)
				for _, d := range res.Damaged {
					fmt.Fprintf(w, "inode %d block %d: not what was backed up\n", d.Inode, d.Block)
				}
				if res.Older {
					fmt.Fprintf(w, "the key store knows a later state: mount it with --accept-restore\n")
				}
			})
			if err == nil && len(res.Damaged) > 0 {
				err = fmt.Errorf("%w: %d blocks", mount.ErrFaults, len(res.Damaged))
			}
			return err
		},
	}
	store.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}
