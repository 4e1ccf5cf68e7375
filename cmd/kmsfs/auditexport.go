package main

import (
	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func auditExportCommand(io stdio) *cobra.Command {
	var f queryFlags
	var x mount.AuditExport
	cmd := &cobra.Command{
		Use: "export --format FORMAT", Short: "Write events as JSON lines, CEF, or CloudTrail's log files with signed digests", Args: usage(cobra.NoArgs),
		Long: "jsonl and cef go to standard output. cloudtrail makes a directory as CloudTrail's bucket: log files by the hour, and a chain of digests signed by --rsa-key, whose\n" +
			"signatures lie beside them (NAME.metadata.json), where S3 has an object's metadata.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if x.Dir, x.Query, err = f.resolve(); err != nil {
				return err
			}
			x.To, x.Version = io.out, version
			return mount.ExportAudit(cmd.Context(), x)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&x.Format, "format", "jsonl", "`FORMAT` of the events: jsonl, cef or cloudtrail")
	cmd.Flags().StringVar(&x.Bucket, "out", "", "`DIR` for cloudtrail")
	cmd.Flags().StringVar(&x.RSAKey, "rsa-key", "", "PEM `FILE` with the RSA key for cloudtrail's digests; made if it is not there")
	return cmd
}
