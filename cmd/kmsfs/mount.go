package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/mount"
)

func mountCommand(io stdio) *cobra.Command {
	var store storeFlags
	var options []string
	var foreground bool
	cfg := mount.StartConfig{Version: version}
	cmd := &cobra.Command{
		Use:   "mount VOLUME MOUNTPOINT",
		Short: "Mount a volume",
		Long: "Mounts VOLUME on MOUNTPOINT, an empty directory, in the background, and returns when the mount answers. A key daemon is started if none\n" +
			"runs for the key store. As root other users see the mount (their access is decided by owner, mode and ACL).",
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Volume, cfg.MountPoint = args[0], args[1]
			cfg.KeyStore, cfg.Secret = store.dir, store.secret
			for _, list := range options {
				if err := cfg.Options.ParseOptions(list); err != nil {
					return err
				}
			}
			if foreground {
				return mount.Foreground(cmd.Context(), cfg)
			}
			return mount.Start(cmd.Context(), cfg)
		},
	}
	store.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&options, "options", "o", nil, "mount options, a comma-separated `LIST`: ro, allow_other, suid, dev, noexec, noatime, fsname=NAME, transport=device|io_uring")
	flags.BoolVarP(&foreground, "foreground", "f", false, "stay in the foreground")
	flags.StringVar(&cfg.AuditLevel, "audit", string(audit.LevelAccess), "`LEVEL` of what is recorded of files where no policy says it: denied, access or full")
	flags.StringVar(&cfg.AuditFailure, "audit-failure", mount.AuditRefuse, "what becomes of successful access to files that cannot be recorded: `WHAT` is refuse or continue")
	flags.DurationVar(&cfg.KeyTTL, "key-ttl", 15*time.Minute, "unwrapped zone keys may be used for `DURATION` without asking the key manager again")
	flags.StringVar(&cfg.Metrics, "metrics", "", "serve figures for Prometheus at `ADDRESS`: unix:PATH or 127.0.0.1:PORT")
	flags.BoolVar(&cfg.AcceptRestore, "accept-restore", false, "accept a volume that is older than the key store knows, after a wanted restore from a backup; recorded")
	return cmd
}

// mountDaemonCommand is what Start runs in the background.
func mountDaemonCommand() *cobra.Command {
	return &cobra.Command{
		Use: "mount-daemon VOLUME MOUNTPOINT", Hidden: true, Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, _ []string) error { return mount.Daemon(cmd.Context()) },
	}
}

// removeHelperCommand is what the file daemon has remove files of its mount.
func removeHelperCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove-helper", Hidden: true, Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return mount.RemoveHelper(os.Stdin, os.Stdout) },
	}
}

func umountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "umount MOUNTPOINT",
		Short: "Unmount a volume and wait until it is closed",
		Args:  usage(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, args []string) error { return mount.Unmount(cmd.Context(), args[0]) },
	}
}

func quote(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
