package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/kmsfs/kmsfs/mount"
)

// progressEvery is how often a bar is drawn at most.
const progressEvery = 100 * time.Millisecond

// progressBar shows on a terminal how far a long command is; elsewhere it shows nothing.
type progressBar struct {
	out   io.Writer // nil: not a terminal
	drawn time.Time
	width int // of what stands there now
}

// bar returns one for standard error. Output that is read by a program has none.
func (io stdio) bar(asJSON bool) *progressBar {
	if f, ok := io.err.(*os.File); ok && !asJSON && term.IsTerminal(int(f.Fd())) {
		return &progressBar{out: f}
	}
	return &progressBar{}
}

// show draws the bar anew, now and then.
func (b *progressBar) show(p mount.Progress) {
	if b.out == nil || time.Since(b.drawn) < progressEvery && (p.Total == 0 || p.Done < p.Total) {
		return
	}
	b.drawn = time.Now()
	b.draw(barText(p))
}

// barText is one line: a bar where the end is known, otherwise a count.
func barText(p mount.Progress) string {
	if p.Total == 0 {
		return fmt.Sprintf("%s: %d", p.Step, p.Done)
	}
	const cells = 30
	full := int(min(p.Done, p.Total) * cells / p.Total)
	return fmt.Sprintf("%s [%s%s] %d/%d", p.Step, strings.Repeat("=", full), strings.Repeat(" ", cells-full), p.Done, p.Total)
}

func (b *progressBar) draw(text string) {
	fmt.Fprintf(b.out, "\r%s%s", text, strings.Repeat(" ", max(0, b.width-len(text))))
	b.width = len(text)
}

// clear takes the bar away: something else is printed.
func (b *progressBar) clear() {
	if b.out != nil && b.width > 0 {
		b.draw("")
		fmt.Fprint(b.out, "\r")
		b.width = 0
	}
}
