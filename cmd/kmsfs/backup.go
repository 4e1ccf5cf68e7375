package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func backupCommand(io stdio) *cobra.Command {
	return copyCommand(io, copying[mount.BackupResult]{
		use: "backup VOLUME|MOUNTPOINT TARGET", short: "Copy a volume, mounted or not, as it is at one moment",
		long: "Makes a backup in TARGET, a new or empty directory, or brings the one that is there up to date: only what has changed is copied.\n" +
			"It is ciphertext, needs the volume's key alone, and is whole at any time: an interrupted run leaves the backup as it was.",
		run: func(ctx context.Context, from, to string, store *storeFlags, progress func(mount.Progress)) (mount.BackupResult, int, error) {
			res, err := mount.Backup(ctx, mount.BackupConfig{Source: from, Target: to, KeyStore: store.dir, Secret: store.secret}, progress)
			return res, len(res.Damaged), err
		},
		print: func(w *tabwriter.Writer, res mount.BackupResult) {
			fmt.Fprintf(w, "run %d: %s in %s and %s copied\n", res.Run, size(res.Bytes), count(res.Blocks, "block"), count(res.Rows, "row"))
			for _, d := range res.Damaged {
				fmt.Fprintf(w, "inode %d block %d: damaged in the volume\n", d.Inode, d.Block)
			}
			fmt.Fprintln(w, "not in it, and needed to open it: the key store (kmsfs keystore backup FILE, after each change of keys)")
			if b := keyStoreBackup(res.KeyStore); b != "" {
				fmt.Fprintf(w, "its last backup: %s\n", b)
			}
		},
	})
}

func restoreCommand(io stdio) *cobra.Command {
	return copyCommand(io, copying[mount.RestoreResult]{
		use: "restore BACKUP VOLUME", short: "Make a volume of a backup",
		long: "Makes VOLUME, a new or empty directory, into the volume that BACKUP is of, and compares every block. If the key store knows a later state,\n" +
			"the volume is mounted with --accept-restore once, which is recorded.",
		run: func(ctx context.Context, from, to string, store *storeFlags, progress func(mount.Progress)) (mount.RestoreResult, int, error) {
			res, err := mount.Restore(ctx, mount.RestoreConfig{Backup: from, Volume: to, KeyStore: store.dir, Secret: store.secret}, progress)
			return res, len(res.Damaged), err
		},
		print: func(w *tabwriter.Writer, res mount.RestoreResult) {
			fmt.Fprintf(w, "%s and %s restored to %s\n", count(res.Rows, "row"), size(res.Bytes), quote(res.Volume))
			for _, d := range res.Damaged {
				fmt.Fprintf(w, "inode %d block %d: not what was backed up\n", d.Inode, d.Block)
			}
			if res.Older {
				fmt.Fprintf(w, "the key store knows a later state: mount it with --accept-restore\n")
			}
		},
	})
}

// copying is a command that copies a volume or a backup, and counts what is damaged in it.
type copying[T any] struct {
	use, short, long string
	run              func(ctx context.Context, from, to string, store *storeFlags, progress func(mount.Progress)) (res T, damaged int, err error)
	print            func(w *tabwriter.Writer, res T)
}

func copyCommand[T any](io stdio, c copying[T]) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: c.use, Short: c.short, Long: c.long, Args: exactly(c.use),
		RunE: func(cmd *cobra.Command, args []string) error {
			bar := io.bar(asJSON)
			res, damaged, err := c.run(cmd.Context(), args[0], args[1], &store, bar.show)
			bar.clear()
			if err != nil {
				return err
			}
			err = io.print(asJSON, res, func(w *tabwriter.Writer) { c.print(w, res) })
			if err == nil && damaged > 0 {
				err = fmt.Errorf("%w: %s", mount.ErrFaults, count(uint64(damaged), "block"))
			}
			return err
		},
	}
	store.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}
