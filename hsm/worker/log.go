package worker

import (
	"bytes"
	"log/slog"
)

// maxLine is the longest line of the worker's standard error that is logged
// whole, in bytes.
const maxLine = 1024

// logWriter logs what the worker, and the module in it, print to standard error.
// One process's output is written by one goroutine.
type logWriter struct {
	log  *slog.Logger
	line []byte
}

// Write never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		rest = more
		w.line = append(w.line, line[:min(len(line), maxLine-len(w.line))]...)
		if whole && len(w.line) > 0 {
			w.log.Warn("HSM worker", "stderr", string(w.line))
			w.line = w.line[:0]
		}
	}
	return len(p), nil
}
