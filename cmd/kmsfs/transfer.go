package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
	"github.com/kmsfs/kmsfs/mount/transfer"
)

func importCommand(io stdio) *cobra.Command {
	var cfg mount.TransferConfig
	cmd := transferCommand(io, &cfg, mount.Import)
	cmd.Use = "import DIR TARGET"
	cmd.Short = "Copy a tree of plaintext files into a mounted volume, and compare it"
	cmd.Long = "Copies what lies in DIR into TARGET, a directory in a mount, with all attributes, and reads both again to compare them. Interrupted at any point, the same command goes on.\n" +
		"With --shred-source the originals are overwritten and removed afterwards. On a disk that writes elsewhere what is overwritten (an SSD, a copy-on-write or journalling\n" +
		"filesystem, a snapshot, a backup) that removes the names and leaves the old contents until they are reused: there only the disk's own erasure helps."
	cmd.Flags().BoolVar(&cfg.Shred, "shred-source", false, "destroy each original whose copy is equal and durable")
	return cmd
}

func exportCommand(io stdio) *cobra.Command {
	var cfg mount.TransferConfig
	cmd := transferCommand(io, &cfg, mount.Export)
	cmd.Use = "export DIR TARGET"
	cmd.Short = "Copy a tree out of a mounted volume as plaintext, and compare it"
	cmd.Long = "Copies what lies in DIR, a directory in a mount, into TARGET with all attributes, in clear, and reads both again to compare them. Interrupted at any point, the same\n" +
		"command goes on."
	return cmd
}

// transferCommand is what import and export have in common.
func transferCommand(io stdio, cfg *mount.TransferConfig, do func(context.Context, mount.TransferConfig) (transfer.Summary, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Source, cfg.Target = args[0], args[1]
			show := &transferView{io: io, asJSON: asJSON, bar: io.bar(asJSON)}
			cfg.Progress, cfg.Issue = show.progress, show.issue
			sum, err := do(cmd.Context(), *cfg)
			show.bar.clear()
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(io.out).Encode(sum)
			} else {
				err = io.print(false, sum, func(w *tabwriter.Writer) { printSummary(w, sum) })
			}
			if err == nil && sum.Issues > 0 {
				err = fmt.Errorf("%w: %d issues, listed above", mount.ErrIncomplete, sum.Issues)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&cfg.Update, "update", false, "replace files of TARGET that differ from DIR's")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// transferView shows what goes on.
type transferView struct {
	io     stdio
	asJSON bool
	bar    *progressBar
	told   time.Time
}

// jsonEvery is how often progress is printed as JSON.
const jsonEvery = time.Second

func (v *transferView) progress(p transfer.Progress) {
	if v.asJSON {
		if time.Since(v.told) >= jsonEvery {
			v.told = time.Now()
			_ = json.NewEncoder(v.io.out).Encode(p) // the summary says if nobody reads
		}
		return
	}
	text := p.Phase
	if p.Speed > 0 {
		text += fmt.Sprintf(", %s/s", size(uint64(p.Speed)))
	}
	if p.Left > 0 {
		text += fmt.Sprintf(", %s left", (time.Duration(p.Left) * time.Second).String())
	}
	if p.TotalBytes == 0 {
		p.Bytes = p.Files
	}
	v.bar.show(mount.Progress{Step: text, Done: p.Bytes, Total: p.TotalBytes})
}

func (v *transferView) issue(i transfer.Issue) error {
	if v.asJSON {
		return json.NewEncoder(v.io.out).Encode(i)
	}
	v.bar.clear()
	_, err := fmt.Fprintf(v.io.out, "%s: %s: %s\n", quote(i.Path), i.Kind, i.What)
	return err
}

func printSummary(w *tabwriter.Writer, s transfer.Summary) {
	line(w, "tree", fmt.Sprintf("%d files, %d directories, %d further names, %d symbolic links, %d others", s.Files, s.Directories, s.Links, s.Symlinks, s.Specials))
	line(w, "copied", fmt.Sprintf("%d files, %s; %s were there from incomplete files", s.Copied, size(s.Bytes), size(s.Resumed)))
	line(w, "compared", fmt.Sprintf("%d, %d of them copied once more", s.Verified, s.Repaired))
	if s.Shredded > 0 {
		line(w, "destroyed", fmt.Sprintf("%d originals, overwritten in place; see kmsfs help import for what that means", s.Shredded))
	}
	line(w, "took", (time.Duration(s.Seconds*1000) * time.Millisecond).String())
}
