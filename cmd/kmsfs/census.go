package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

func censusCommand(io stdio) *cobra.Command {
	var cfg mount.CensusConfig
	var before, wrapped string
	var newest bool
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "census VOLUME|DIR|FILE",
		Short: "Count what of a mounted volume is sealed under which keys",
		Long: "Counts files, blocks and wrapped data keys, and says by which versions of which keys zones and volume are wrapped, from a scan of its own. With --before it fails (19)\n" +
			"if anything is sealed under a data key made before then: the proof that a re-encryption left nothing.",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg.Target = args[0]
			if before != "" {
				if cfg.Before, err = time.Parse(time.RFC3339Nano, before); err != nil {
					return fmt.Errorf("%w: %q is not a time like 2026-01-31T12:00:00Z", mount.ErrUsage, before)
				}
			}
			if wrapped != "" {
				if cfg.WrappedBefore, err = time.Parse(time.RFC3339Nano, wrapped); err != nil {
					return fmt.Errorf("%w: %q is not a time like 2026-01-31T12:00:00Z", mount.ErrUsage, wrapped)
				}
			}
			c, err := mount.TakeCensus(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if err := io.print(asJSON, c, func(w *tabwriter.Writer) { printCensus(w, c) }); err != nil {
				return err
			}
			switch b := c.Before; {
			case newest && c.OldVersion > 0:
				return fmt.Errorf("%w: %d wraps of volume and zone keys are under a version that is not the newest of their key", mount.ErrFaults, c.OldVersion)
			case c.Keyless > 0:
				return fmt.Errorf("%w: %d blocks are sealed under keys that are not there", mount.ErrFaults, c.Keyless)
			case b != nil && b.Wraps > 0:
				return fmt.Errorf("%w: %d data keys of %d files are older, %d blocks are sealed under them; one is %s", mount.ErrFaults, b.Wraps, b.Files, b.Blocks, b.First)
			}
			if w := c.Wrapped; w != nil && (w.Wraps > 0 || w.Zones > 0) {
				return fmt.Errorf("%w: %d data keys are wrapped under older zone keys; one is of %s; %d zones have older keys", mount.ErrFaults, w.Wraps, w.First, w.Zones)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&cfg.All, "all", false, "all of the volume that the path lies in")
	f.StringVar(&before, "before", "", "fail if a data key was made before this `TIME`, as kmsfs jobs --json says when a job was submitted")
	f.StringVar(&wrapped, "wrapped-before", "", "fail if a data key is wrapped under a zone key made before this `TIME`: the proof of a deep rewrap")
	f.BoolVar(&newest, "newest", false, "fail if a wrap of the volume's or a zone's key is under a version that is not the newest of its key")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func printCensus(w *tabwriter.Writer, c mount.Census) {
	line(w, "volume", c.Volume)
	line(w, "below", quote(c.Root))
	line(w, "files", fmt.Sprintf("%d, %d of them inline", c.Files, c.Inline))
	line(w, "blocks", fmt.Sprint(c.Blocks))
	line(w, "stored otherwise", fmt.Sprintf("%d files than their directories say, %d between two objects", c.OldParams, c.Moving))
	line(w, "data keys", fmt.Sprintf("%d, %d of them older ones of their file, with %d blocks", c.Wraps, c.OldWraps, c.OldBlocks))
	if c.Oldest != nil {
		line(w, "oldest data key", since(*c.Oldest))
	}
	if b := c.Before; b != nil {
		line(w, "made before "+since(b.Time), fmt.Sprintf("%d data keys of %d files, with %d blocks", b.Wraps, b.Files, b.Blocks))
	}
	for _, age := range c.VolumeKey {
		line(w, "volume key", wrapAge(age))
	}
	for _, z := range c.Zones {
		key := fmt.Sprintf("version %d, %s, %d data keys below it", z.Version, since(z.Made), z.Below)
		if z.Former {
			key += "; the one before is there still"
		}
		line(w, fmt.Sprintf("key of zone %d", z.Zone), key)
		for _, age := range z.Wraps {
			line(w, fmt.Sprintf("zone %d (%d files)", z.Zone, z.Files), wrapAge(age))
		}
	}
	for _, u := range c.Versions {
		name := fmt.Sprintf("under %s version %d", u.Key, u.Version)
		if u.Key == "" {
			name = "under keys not known here"
		}
		line(w, name, fmt.Sprintf("%d wraps; %d files with %d data keys and %d blocks", u.Wraps, u.Files, u.DataKeys, u.Blocks))
	}
	if k := c.AuditKey; k != nil {
		line(w, "audit log", fmt.Sprintf("sealed by an %s key in the token, which no key wraps; %d records", k.Algorithm, k.Sealed))
	}
	line(w, "wraps below the newest version", fmt.Sprint(c.OldVersion))
}

func wrapAge(a mount.WrapAge) string {
	text := fmt.Sprintf("%s version %d, %s", a.Key, a.Version, a.State)
	if a.Newest {
		text += ", newest"
	}
	return text
}
