package main

import (
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/mount"
)

// parseTime reads a time: RFC 3339, a date, or how long ago ("2h").
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	return parseMoment(s)
}

// parseEnd reads when something ends, which is later than now: as parseTime, but a duration is from now on. "" is the zero time.
func parseEnd(s string, now time.Time) (end time.Time, err error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, derr := time.ParseDuration(s); derr == nil {
		end = now.Add(d)
	} else if end, err = parseMoment(s); err != nil {
		return time.Time{}, err
	}
	if !end.After(now) {
		return time.Time{}, fmt.Errorf("%w: %q is over already", mount.ErrUsage, s)
	}
	return end, nil
}

// parseMoment reads RFC 3339, or a date with or without a time, which are local.
func parseMoment(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %q is neither a time (2026-01-31T12:00:00Z, 2026-01-31) nor a duration (2h)", mount.ErrUsage, s)
}

// since is a time as it is printed; "" for none.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
