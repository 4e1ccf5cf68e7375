package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

// maxTokenInput bounds what is read as a token, in bytes.
const maxTokenInput = 4096

// grantUseCommand attaches a grant token to the caller at mounts. A token is worth something to its grantee only; still it is better not seen by others.
func grantUseCommand(std stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "use TOKEN|- [MOUNTPOINT]", Short: "Present a grant token with this session's use of files, for 5 minutes; - reads it from standard input", Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, where := args[0], ""
			if len(args) > 1 {
				where = args[1]
			}
			if token == "-" {
				raw, err := io.ReadAll(io.LimitReader(std.in, maxTokenInput))
				if err != nil {
					return fmt.Errorf("%w: read the token: %w", mount.ErrUsage, err)
				}
				token = strings.TrimSpace(string(raw))
			} else {
				fmt.Fprintln(std.err, "kmsfs: other users see arguments while the command runs; kmsfs grant use - reads the token from standard input")
			}
			used, err := mount.UseGrant(token, where)
			if err != nil {
				return err
			}
			return std.print(asJSON, used, func(w *tabwriter.Writer) {
				for _, u := range used {
					line(w, quote(u.MountPoint), "until "+since(u.Until))
				}
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
