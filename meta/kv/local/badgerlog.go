package local

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A report that Badger makes again and again, as of a merge that fails, is logged once in a while, and not at
// any length: it may hold the keys of whole tables.
const (
	logAgain  = time.Minute
	logLength = 500 // bytes
)

// badgerLog passes Badger's errors and warnings on, counts them, and halts merges that would lose rows. It is
// safe for concurrent use.
type badgerLog struct {
	log     *slog.Logger
	trouble *trouble
	probe   func() error // tries to write a file where the tables are

	mu   sync.Mutex
	seen map[string]*repetition // by what is the same in all reports of a kind
}

// repetition is when a report was last logged and how often it was left out since.
type repetition struct {
	at   time.Time
	left int
}

var _ badger.Logger = (*badgerLog)(nil)

func newBadgerLog(dir string, log *slog.Logger, t *trouble) *badgerLog {
	return &badgerLog{log: log, trouble: t, probe: func() error { return tryWrite(dir) }, seen: map[string]*repetition{}}
}

// due tells whether a report is to be logged, and how many of its kind were left out since the last one.
func (l *badgerLog) due(format string) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, r := time.Now(), l.seen[format]
	if r != nil && now.Sub(r.at) < logAgain {
		r.left++
		return 0, false
	}
	l.seen[format] = &repetition{at: now}
	if r != nil {
		left = r.left
	}
	return left, true
}

func (l *badgerLog) write(level slog.Level, format string, args []any) {
	left, ok := l.due(format)
	if !ok {
		return
	}
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	if len(text) > logLength {
		text = text[:logLength] + "..."
	}
	var more []any
	if left > 0 {
		more = []any{"left_out", left}
	}
	l.log.Log(context.Background(), level, "badger: "+text, more...)
}

// Errorf and the others implement badger.Logger.
func (l *badgerLog) Errorf(format string, args ...any) {
	if l.trouble != nil {
		l.trouble.errors.Add(1)
	}
	l.write(slog.LevelError, format, args)
}

// Warningf is called with each merge of tables that has failed.
func (l *badgerLog) Warningf(format string, args ...any) {
	if l.trouble != nil {
		l.trouble.warnings.Add(1)
	}
	l.write(slog.LevelWarn, format, args)
}

// Infof is left out.
func (l *badgerLog) Infof(string, ...any) {}

// tableMerged is how Badger reports that the content of a merged table is complete, before it makes its file.
const tableMerged = "[%d] LOG Compact. Added %d keys. Skipped %d keys. Iteration took: %v"

// Debugf is called between what a merge reads and what it writes. Badger (4.9.6, levels.go, subcompact) forgets
// the error of a table that it could not write, and goes on to delete the tables that were merged into it: their
// rows are gone. What would make it fail is tried here first, and if it does the merge never goes on.
func (l *badgerLog) Debugf(format string, _ ...any) {
	if format != tableMerged || l.trouble == nil {
		return
	}
	if err := l.probe(); err != nil {
		err = fmt.Errorf("merge tables: %w", err)
		l.trouble.halted.CompareAndSwap(nil, &err)
		l.log.Error("badger: merging is halted until the volume is opened again", "error", err)
		select {}
	}
}
