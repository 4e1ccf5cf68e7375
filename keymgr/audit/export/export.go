package export

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
)

// Writer takes events and writes them in one form.
type Writer interface {
	Write(f trail.Found) error
	Close() error // ends the export; without it, it is not complete
}

// NewLines writes events as they are in the log, one a line.
func NewLines(w io.Writer) Writer { return &lines{bufio.NewWriter(w)} }

type lines struct{ w *bufio.Writer }

func (l *lines) Write(f trail.Found) error {
	_, _ = l.w.Write(f.Line) // the error stays with the writer
	return l.w.WriteByte('\n')
}

func (l *lines) Close() error { return l.w.Flush() }

// NewCEF writes events in ArcSight's Common Event Format, version 0, one a line.
func NewCEF(w io.Writer, version string) Writer { return &cef{bufio.NewWriter(w), version} }

type cef struct {
	w       *bufio.Writer
	version string
}

func (c *cef) Close() error { return c.w.Flush() }

func (c *cef) Write(f trail.Found) error {
	e := f.Event
	fmt.Fprintf(c.w, "CEF:0|kmsfs|kmsfs|%s|%s|%s|%d|", cefHeader(c.version), cefHeader(e.Class.String()), cefHeader(e.Name), severity(e))
	fmt.Fprintf(c.w, "rt=%d", e.Time.UnixMilli())
	for _, x := range []struct{ key, value string }{
		{"outcome", string(e.Decision)}, {"act", e.Name}, {"suser", e.Principal}, {"suid", number(e.UID)}, {"spid", number(e.PID)}, {"sproc", e.Program}, {"src", e.SourceAddress},
		{"filePath", e.Path}, {"fname", e.NewPath}, {"fileId", positive(e.Inode)}, {"reason", e.ErrorCode}, {"msg", e.Detail}, {"externalId", e.ID},
		{"cs1Label", "key"}, {"cs1", e.Key}, {"cs2Label", "statement"}, {"cs2", e.Statement}, {"cs3Label", "volume"}, {"cs3", e.Volume}, {"cs4Label", "requestId"}, {"cs4", e.RequestID},
		{"cs5Label", "stream"}, {"cs5", f.Stream}, {"cn1Label", "sequence"}, {"cn1", fmt.Sprint(e.Sequence)}, {"in", positive(e.BytesRead)}, {"out", positive(e.BytesWritten)},
	} {
		if x.value != "" {
			fmt.Fprintf(c.w, " %s=%s", x.key, cefValue(x.value))
		}
	}
	return c.w.WriteByte('\n')
}

func number(n int) string { return fmt.Sprint(n) }

func positive(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// severity is CEF's, 0 to 10.
func severity(e *audit.Event) int {
	switch {
	case e.Class == audit.Integrity:
		return 9
	case e.Decision == audit.Deny:
		return 6
	case e.Class == audit.Admin:
		return 5
	case e.ErrorCode != "":
		return 4
	}
	return 2
}

var (
	cefHeaders = strings.NewReplacer(`\`, `\\`, `|`, `\|`, "\n", " ", "\r", " ")
	cefValues  = strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
)

func cefHeader(s string) string { return cefHeaders.Replace(s) }
func cefValue(s string) string  { return cefValues.Replace(s) }
