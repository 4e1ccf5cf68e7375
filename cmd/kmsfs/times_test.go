package main

import (
	"errors"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount"
)

// TestParseEnd: durations are from now on, moments are what they are, and nothing that is over is taken as no end.
func TestParseEnd(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{"": {}, "24h": now.Add(24 * time.Hour), "2026-01-31T13:00:00+01:00": {}, "2026-01-31T12:00:01Z": now.Add(time.Second), "2026-02-03": time.Date(2026, 2, 3, 0, 0, 0, 0, time.Local)} {
		got, err := parseEnd(s, now)
		if s != "" && want.IsZero() {
			if !errors.Is(err, mount.ErrUsage) {
				t.Errorf("%q: %v, %v", s, got, err)
			}
		} else if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"-1h", "0s", "tomorrow", "2026-01-30"} {
		if got, err := parseEnd(s, now); !errors.Is(err, mount.ErrUsage) || !got.IsZero() {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}
