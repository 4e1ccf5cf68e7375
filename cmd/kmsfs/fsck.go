package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func fsckCommand(io stdio) *cobra.Command {
	var store storeFlags
	var asJSON, quarantine bool
	cfg := mount.CheckConfig{}
	cmd := &cobra.Command{
		Use:   "fsck VOLUME|MOUNTPOINT",
		Short: "Check every row and block, one line per fault",
		Long: "Checks kmsfs.json, every metadata row, every block of every file and every object; a mounted volume is checked by its daemon while in use.\n" +
			"Prints one line per fault, what and where, and exits with 19 if there are any.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Target, cfg.KeyStore, cfg.Secret = args[0], store.dir, store.secret
			out := faultPrinter{io: io, asJSON: asJSON, bar: io.bar(asJSON)}
			if quarantine && cfg.Repair {
				return fmt.Errorf("%w: --repair and --quarantine exclude each other", mount.ErrUsage)
			}
			if quarantine {
				return mount.Quarantine(cmd.Context(), cfg, out.quarantined)
			}
			cfg.Progress = out.bar.show
			sum, err := mount.Check(cmd.Context(), cfg, out.fault)
			if class := mount.ClassOf(err); err != nil && class != mount.ClassFaults {
				return err
			}
			return errors.Join(out.summary(sum), err)
		},
	}
	store.add(cmd)
	cmd.Flags().BoolVar(&cfg.Repair, "repair", false, "remove objects that belong to no file; write a damaged metadata export anew; write a damaged kmsfs.json anew from the key store's copy (not while mounted); quarantine the rest")
	cmd.Flags().BoolVar(&quarantine, "quarantine", false, "do not check; list what --repair could not repair, with the files and bytes that it is about, until a later --repair finds it gone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object per line: faults, then the summary")
	return cmd
}

// faultPrinter prints faults as they are found.
type faultPrinter struct {
	io     stdio
	asJSON bool
	bar    *progressBar
}

func (p *faultPrinter) fault(f mount.Fault) error {
	if p.asJSON {
		return json.NewEncoder(p.io.out).Encode(f)
	}
	p.bar.clear()
	repaired := ""
	switch {
	case f.Fixed:
		repaired = " (repaired)"
	case f.Kept:
		repaired = " (quarantined)"
	}
	_, err := fmt.Fprintf(p.io.out, "%s: %s%s\n", f.Where, f.What, repaired)
	return errors.Join(err, p.affected(f))
}

// affected prints which files a fault is about, and which of their bytes.
func (p *faultPrinter) affected(f mount.Fault) (err error) {
	for _, path := range f.Paths {
		if f.Length > 0 {
			_, err = fmt.Fprintf(p.io.out, "    %s: bytes %d to %d cannot be read\n", quote(path), f.Offset, f.Offset+f.Length-1)
		} else {
			_, err = fmt.Fprintf(p.io.out, "    %s\n", quote(path))
		}
	}
	return err
}

func (p *faultPrinter) quarantined(q mount.Quarantined) error {
	if p.asJSON {
		return json.NewEncoder(p.io.out).Encode(q)
	}
	_, err := fmt.Fprintf(p.io.out, "%s: %s (since %s)\n", q.Where, q.What, q.Since.Format(time.RFC3339))
	return errors.Join(err, p.affected(q.Fault))
}

func (p *faultPrinter) summary(sum mount.CheckSummary) error {
	p.bar.clear()
	if p.asJSON {
		return json.NewEncoder(p.io.out).Encode(sum)
	}
	_, err := fmt.Fprintf(p.io.out, "%s, %s with content: %s, %d repaired, %d quarantined\n",
		count(sum.Inodes, "inode"), count(sum.Files, "file"), count(uint64(sum.Faults), "fault"), sum.Repairs, sum.Kept)
	return err
}
