package main

import (
	"fmt"
	"text/tabwriter"

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
			if cfg.Before, err = parseTime(before); err != nil {
				return err
			}
			if cfg.WrappedBefore, err = parseTime(wrapped); err != nil {
				return err
			}
			c, err := mount.TakeCensus(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if err := io.print(asJSON, c, func(w *tabwriter.Writer) { printCensus(w, c) }); err != nil {
				return err
			}
			return censusFaults(c, newest)
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

// censusFaults is the error for what must not be there: always, or where newest, or a time, was asked for.
func censusFaults(c mount.Census, newest bool) error {
	b, w := c.Before, c.Wrapped
	switch {
	case newest && c.OldVersion > 0:
		return fmt.Errorf("%w: %s of volume and zone keys under a version that is not the newest of their key", mount.ErrFaults, count(c.OldVersion, "wrap"))
	case c.Keyless > 0:
		return fmt.Errorf("%w: %s sealed under keys that are not there", mount.ErrFaults, count(c.Keyless, "block"))
	case b != nil && b.Wraps > 0:
		return fmt.Errorf("%w: %s of %s older, with %s sealed under them; one is of %s", mount.ErrFaults, count(b.Wraps, "data key"), count(b.Files, "file"), count(b.Blocks, "block"), b.First)
	case w != nil && (w.Wraps > 0 || w.Zones > 0):
		return fmt.Errorf("%w: %s wrapped under older zone keys; one is of %s; %s with older keys", mount.ErrFaults, count(w.Wraps, "data key"), w.First, count(w.Zones, "zone"))
	}
	return nil
}

func printCensus(w *tabwriter.Writer, c mount.Census) {
	line(w, "volume", c.Volume)
	line(w, "below", quote(c.Root))
	line(w, "files", fmt.Sprintf("%d, %d of them inline", c.Files, c.Inline))
	line(w, "stored otherwise", fmt.Sprintf("%s than their directories say, %d between two objects", count(c.OldParams, "file"), c.Moving))
	line(w, "blocks", fmt.Sprint(c.Blocks))
	line(w, "data keys", fmt.Sprintf("%d, %d of them older ones of their file, with %s", c.Wraps, c.OldWraps, count(c.OldBlocks, "block")))
	if c.Oldest != nil {
		line(w, "oldest data key", since(*c.Oldest))
	}
	if b := c.Before; b != nil {
		line(w, "before "+since(b.Time), fmt.Sprintf("%s of %s, with %s", count(b.Wraps, "data key"), count(b.Files, "file"), count(b.Blocks, "block")))
	}
	line(w, "old wraps", fmt.Sprintf("%d below the newest version of their key", c.OldVersion))
	if k := c.AuditKey; k != nil {
		line(w, "audit log", fmt.Sprintf("sealed by an %s key in the token, which no key wraps; %s", k.Algorithm, count(uint64(max(0, k.Sealed)), "record")))
	}
	fmt.Fprintln(w)
	printWrapped(w, c)
	fmt.Fprintln(w)
	writeTable(w, c.Versions, []column[mount.VersionUse]{
		{"KEY", func(u mount.VersionUse) string { return keyName(u.Key) }},
		{"VERSION", func(u mount.VersionUse) string { return fmt.Sprint(u.Version) }},
		{"NEWEST", func(u mount.VersionUse) string { return yesNo(u.Newest) }},
		{"WRAPS", func(u mount.VersionUse) string { return fmt.Sprint(u.Wraps) }},
		{"FILES", func(u mount.VersionUse) string { return fmt.Sprint(u.Files) }},
		{"DATA KEYS", func(u mount.VersionUse) string { return fmt.Sprint(u.DataKeys) }},
		{"BLOCKS", func(u mount.VersionUse) string { return fmt.Sprint(u.Blocks) }},
	})
}

// wrapped is one wrap of the volume's key or of a zone's.
type wrapped struct {
	what, version, made, files string
	by                         mount.WrapAge
}

// printWrapped says by which versions of which keys volume and zones are wrapped.
func printWrapped(w *tabwriter.Writer, c mount.Census) {
	var rows []wrapped
	for _, age := range c.VolumeKey {
		rows = append(rows, wrapped{what: "volume", by: age})
	}
	for _, z := range c.Zones {
		version := fmt.Sprint(z.Version)
		if z.Former {
			version += fmt.Sprintf(", and the one before for %s", count(z.Below, "data key"))
		}
		for _, age := range z.Wraps {
			rows = append(rows, wrapped{fmt.Sprintf("zone %d", z.Zone), version, since(z.Made), fmt.Sprint(z.Files), age})
		}
	}
	writeTable(w, rows, []column[wrapped]{
		{"KEY OF", func(r wrapped) string { return r.what }},
		{"VERSION", func(r wrapped) string { return r.version }},
		{"MADE", func(r wrapped) string { return r.made }},
		{"FILES", func(r wrapped) string { return r.files }},
		{"WRAPPED BY", func(r wrapped) string { return fmt.Sprintf("%s version %d", keyName(r.by.Key), r.by.Version) }},
		{"NEWEST", func(r wrapped) string { return yesNo(r.by.Newest) }},
		{"STATE", func(r wrapped) string { return r.by.State }},
	})
}
