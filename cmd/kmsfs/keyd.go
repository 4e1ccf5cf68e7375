package main

import (
	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func keydCommand(io stdio) *cobra.Command {
	var store storeFlags
	var cfg mount.KeydConfig
	cmd := &cobra.Command{
		Use:   "keyd",
		Short: "Run the key daemon of a key store",
		Long: "Makes the key store where there is none. Serves the keys of a key store on KEYSTORE/run/keyd.sock: the AWS KMS protocol for key operations, and what mounts need. kmsfs mount starts one by\n" +
			"itself; this is for service managers (--foreground).",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.KeyStore, cfg.Secret, cfg.Version = store.dir, store.secret, version
			return mount.Keyd(cmd.Context(), cfg)
		},
	}
	store.add(cmd)
	cmd.Flags().BoolVarP(&cfg.Foreground, "foreground", "f", false, "stay in the foreground")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "", "also answer requests signed as AWS' are, on `ADDRESS:PORT`; without TLS on a loopback address only")
	cmd.Flags().StringVar(&cfg.TLS.Certificate, "tls-cert", "", "certificate `FILE` (PEM, with its chain) for --listen")
	cmd.Flags().StringVar(&cfg.TLS.Key, "tls-key", "", "the certificate's key, in `FILE`")
	cmd.Flags().BoolVar(&cfg.AWSLimits, "aws-limits", false, "AWS' limit of 25 rotations on demand")
	cmd.Flags().DurationVar(&cfg.GrantDelay, "grant-delay", 0, "hide a new grant for so long (`DURATION`) from who does not present its token")
	cmd.Flags().IntVar(&cfg.ReplayMemory, "replay-memory", 0, "remember the signatures of requests in so many `MIB` (default 64: 4,600 requests a second)")
	cmd.Flags().StringVar(&cfg.Metrics, "metrics", "", "serve figures for Prometheus at `ADDRESS`: unix:PATH or 127.0.0.1:PORT")
	cmd.Flags().BoolVar(&cfg.AcceptRestore, "accept-restore", false, "accept a key store that is older than its token knows, after a wanted restore; it is recorded")
	cmd.Flags().IntVar(&cfg.ReadyFD, "ready-fd", 0, "tell descriptor `N` how the start went")
	_ = cmd.Flags().MarkHidden("ready-fd")
	return cmd
}

// workerCommand is the worker's program under kmsfs' own name: it alone is built with cgo.
func workerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "hsm-worker", Short: "Run the process that loads a PKCS#11 module (started by the key daemon)", Hidden: true,
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return mount.ExecWorker(args) },
	}
}
