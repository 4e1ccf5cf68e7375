package worker

import (
	"context"
	"log/slog"
)

// capture logs the stderr attribute of every record into lines.
func capture(lines *[]string) *slog.Logger { return slog.New(handler{lines}) }

type handler struct{ lines *[]string }

func (handler) Enabled(context.Context, slog.Level) bool { return true }
func (h handler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h handler) WithGroup(string) slog.Handler          { return h }
func (h handler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		*h.lines = append(*h.lines, a.Value.String())
		return true
	})
	return nil
}
