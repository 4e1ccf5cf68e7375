package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func statusCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [MOUNTPOINT]",
		Short: "List this user's mounts: volume, keys, health",
		Args:  usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			mounts, err := mount.Status(cmd.Context(), args...)
			if err != nil {
				return err
			}
			if len(mounts) == 0 && !asJSON {
				_, err := fmt.Fprintln(io.err, "nothing is mounted")
				return err
			}
			return io.print(asJSON, mounts, func(w *tabwriter.Writer) {
				for i, m := range mounts {
					if i > 0 {
						fmt.Fprintln(w)
					}
					printMount(w, m)
				}
			})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printMount(w *tabwriter.Writer, m mount.MountStatus) {
	line(w, "mount point", quote(m.MountPoint))
	line(w, "volume", quote(m.Volume)+" ("+m.ID+")")
	line(w, "state", m.State)
	line(w, "problem", m.Problem)
	line(w, "warning", m.Warning)
	if m.PID != 0 {
		line(w, "daemon", fmt.Sprintf("process %d since %s, log %s", m.PID, since(m.Started), quote(m.Log)))
	}
	if m.State == mount.StateDead {
		return
	}
	line(w, "transport", m.Transport)
	line(w, "idle processors", m.Idle)
	line(w, "journal", fmt.Sprintf("%s waiting, record %d, durable to %d, checkpoint at %d, anchored at %d",
		size(uint64(m.Journal.Bytes)), m.Journal.Records, m.Journal.Durable, m.Journal.Checkpoint, m.Journal.Anchored))
	line(w, "key", fmt.Sprintf("%s version %d, %s", m.Keys.Key, m.Keys.Version, m.Keys.State))
	printWraps(w, m.Keys.Wraps)
	for _, z := range m.Zones {
		state := ""
		if z.Locked {
			state += ", locked"
		}
		if z.Keyless {
			state += ", its keys are disabled"
		}
		if !z.Learns.IsZero() {
			state += ", learns until " + since(z.Learns) + ": what no statement allows is allowed"
		}
		line(w, "directory", quote(z.Directory)+state)
	}
	line(w, "key store", quote(m.Keys.KeyStore))
	line(w, "its backup", keyStoreBackup(m.Keys.Backup))
	line(w, "token", m.Keys.Token)
}

// keyStoreBackup says when a key store was backed up, and whether that is enough.
func keyStoreBackup(b *mount.KeyStoreBackup) string {
	const again = ": kmsfs keystore backup FILE"
	switch {
	case b == nil:
		return ""
	case b.Time.IsZero():
		return "never made" + again
	case b.Keys:
		return since(b.Time) + ", keys were made since" + again
	case b.Changed:
		return since(b.Time) + ", changed since, but no key was made" + again
	}
	return since(b.Time) + ", nothing has changed since"
}

// printWraps says by what else a key opens, where there is more than one wrap.
func printWraps(w *tabwriter.Writer, wraps []mount.WrapStatus) {
	if len(wraps) < 2 {
		return
	}
	for i, wrap := range wraps {
		key := wrap.Key
		if key == "" {
			key = "a key not known here"
		}
		if wrap.Version != 0 {
			key += fmt.Sprintf(" version %d", wrap.Version)
		}
		line(w, fmt.Sprintf("wrap %d", i+1), key+", "+wrap.State)
	}
}

func infoCommand(io stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info PATH",
		Short: "Say how a file in a mount is stored and by which keys it is protected",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := mount.Info(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return io.print(asJSON, info, func(w *tabwriter.Writer) { printInfo(w, info) })
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printInfo(w *tabwriter.Writer, f mount.FileInfo) {
	line(w, "path", quote(f.Path))
	line(w, "volume", f.Volume)
	line(w, "inode", fmt.Sprintf("%d (%s, %s)", f.Inode, f.Type, count(uint64(f.Links), "link")))
	line(w, "size", fmt.Sprintf("%d bytes, %d allocated", f.Size, f.Allocated))
	line(w, "layout", f.Layout)
	line(w, "object", f.Object)
	if f.BlockSize != 0 {
		line(w, "blocks", fmt.Sprintf("of %d bytes, AES-256-GCM, key epoch %d of %v", f.BlockSize, f.Epoch, f.Epochs))
	}
	line(w, "compression", f.Compression)
	line(w, "zone", fmt.Sprintf("%d (directory with inode %d)", f.Zone, f.ZoneInode))
	line(w, "key", fmt.Sprintf("%s version %d", f.Key, f.KeyVersion))
	printWraps(w, f.Wraps)
	pairs := make([]string, 0, len(f.Context))
	for k, v := range f.Context {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	line(w, "encryption context", strings.Join(pairs, ", "))
}
