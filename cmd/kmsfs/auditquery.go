package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/mount"
)

// queryFlags say which events are wanted, of which log.
type queryFlags struct {
	keyStore, dir string
	auditorKey    string
	since, until  string
	decision      string
	query         trail.Query
}

func (f *queryFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.keyStore, "keystore", "", "key store `DIR` whose log is meant")
	flags.StringVar(&f.dir, "dir", "", "the log's `DIR`, if it is not the key store's")
	flags.StringVar(&f.since, "since", "", "from this `TIME` on, or so long ago (2h)")
	flags.StringVar(&f.until, "until", "", "before this `TIME`")
	flags.StringVar(&f.query.Principal, "principal", "", "by this `ARN`")
	flags.StringVar(&f.query.Path, "path", "", "on this `PATH` and below; with * at the end, on all that begins with it")
	flags.StringVar(&f.query.Key, "key", "", "with the key of this `ARN`")
	flags.StringVar(&f.query.Name, "event", "", "of this `NAME` (Open, Decrypt, …)")
	flags.StringVar(&f.decision, "decision", "", "with this `DECISION`: allow or deny")
	flags.StringVar(&f.query.Statement, "statement", "", "decided by this `STATEMENT`, as the event has it")
	flags.StringArrayVar(&f.query.Streams, "stream", nil, "of this `STREAM`: keyd, or a volume's id")
	flags.StringVar(&f.auditorKey, "auditor-key", "", "open sealed events with the auditor's secret key in `FILE`")
	flags.BoolVar(&f.query.Internal, "internal", false, "the log's own events too: seals, beginnings, ends")
}

func (f *queryFlags) resolve() (dir string, q trail.Query, err error) {
	q = f.query
	if q.Since, err = parseTime(f.since); err != nil {
		return "", q, err
	}
	if q.Until, err = parseTime(f.until); err != nil {
		return "", q, err
	}
	switch q.Decision = audit.Decision(f.decision); q.Decision {
	case "", audit.Allow, audit.Deny:
	default:
		return "", q, fmt.Errorf("%w: --decision is allow or deny", mount.ErrUsage)
	}
	if q.Opener, err = mount.AuditOpener(f.auditorKey); err != nil {
		return "", q, err
	}
	if dir = f.dir; dir == "" {
		dir, err = mount.AuditDir(f.keyStore)
	}
	return dir, q, err
}

// errEnough ends a search.
var errEnough = errors.New("enough")

func auditQueryCommand(io stdio) *cobra.Command {
	var f queryFlags
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "query", Short: "Print the events that are wanted, of all streams, oldest first", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, q, err := f.resolve()
			if err != nil {
				return err
			}
			n := 0
			err = trail.Search(cmd.Context(), dir, q, func(e trail.Found) error {
				if n++; limit > 0 && n > limit {
					return errEnough
				}
				return printEvent(io.out, asJSON, e)
			})
			if errors.Is(err, errEnough) {
				err = nil
			}
			if err == nil && n == 0 {
				fmt.Fprintln(io.err, "no events match")
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "at most `N` events")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the events as they are in the log, one a line")
	return cmd
}

func auditTailCommand(io stdio) *cobra.Command {
	var f queryFlags
	var follow, asJSON bool
	var last int
	cmd := &cobra.Command{
		Use: "tail", Short: "Print the newest events, and with -f those to come", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, q, err := f.resolve()
			if err != nil {
				return err
			}
			t, err := trail.NewTail(dir, q)
			if err != nil {
				return err
			}
			var ring []string
			err = t.Before(cmd.Context(), func(e trail.Found) error {
				var b strings.Builder
				if err := printEvent(&b, asJSON, e); err != nil {
					return err
				}
				if ring = append(ring, b.String()); len(ring) > last {
					ring = ring[1:]
				}
				return nil
			})
			for _, s := range ring {
				fmt.Fprint(io.out, s)
			}
			if err != nil || !follow {
				return err
			}
			return t.Follow(cmd.Context(), func(e trail.Found) error { return printEvent(io.out, asJSON, e) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().IntVarP(&last, "lines", "n", 10, "the newest `N` events")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the events as they are in the log, one a line")
	return cmd
}

// printEvent writes an event as a line: for people, or as it is.
func printEvent(w io.Writer, asJSON bool, f trail.Found) error {
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", f.Line)
		return err
	}
	e := f.Event
	parts := []string{e.Time.Local().Format("2006-01-02 15:04:05.000"), string(e.Decision), e.Name}
	if e.Principal != "" {
		parts = append(parts, e.Principal[strings.LastIndexByte(e.Principal, ':')+1:])
	}
	for _, p := range []struct{ name, v string }{{"", e.Path}, {"to=", e.NewPath}, {"key=", e.Key[strings.LastIndexByte(e.Key, ':')+1:]}, {"program=", e.Program}, {"by=", e.Statement},
		{"error=", e.ErrorCode}, {"detail=", e.Detail}} {
		if p.v != "" {
			parts = append(parts, p.name+quote(p.v))
		}
	}
	if e.Sealed != "" {
		parts = append(parts, "sealed")
	}
	if e.Count > 0 {
		parts = append(parts, fmt.Sprintf("count=%d", e.Count))
	}
	if e.BytesRead+e.BytesWritten > 0 {
		parts = append(parts, fmt.Sprintf("read=%d written=%d", e.BytesRead, e.BytesWritten))
	}
	if e.Latency > 0 {
		parts = append(parts, "in="+e.Latency.Round(time.Microsecond).String())
	}
	_, err := fmt.Fprintln(w, strings.Join(parts, " "))
	return err
}
