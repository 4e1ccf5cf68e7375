package audit

import (
	"testing"
	"time"
)

func benchEvent() *Event {
	return &Event{Class: Access, Source: Files, Name: Open, Time: time.Now(), ID: NewID(), ReadOnly: true, Decision: Allow, Statement: "statement 20 (staff) in line 22 of the directory's policy", Latency: 5 * time.Microsecond,
		Cached: true, Identity: Identity{Principal: "arn:aws:iam::000000000000:unix/user/alice", UID: 1000, GID: 1000, PID: 12345, Program: "/usr/bin/cat"},
		Object: Object{Volume: "00112233445566778899aabbccddeeff", Zone: 2, Inode: 4711, Path: "/projects/alpha/reports/2026/november.txt",
			Key: "arn:aws:kms:local:000000000000:key/8f6e3f6c-3a8d-4b8f-9d53-1c2b3a4d5e6f"}}
}

// BenchmarkAppend encodes an event as an open of a file makes it.
func BenchmarkAppend(b *testing.B) {
	benchAppend(b, func(p []byte, e *Event) ([]byte, error) { return e.Append(p) })
}

// BenchmarkForms encodes one that is like those before.
func BenchmarkForms(b *testing.B) { benchAppend(b, new(Forms).Append) }

// BenchmarkSplit gives what such a one has beyond its form.
func BenchmarkSplit(b *testing.B) {
	var f Forms
	benchAppend(b, func(p []byte, e *Event) ([]byte, error) { _, p = f.Split(p, e); return p, nil })
}

func benchAppend(b *testing.B, write func([]byte, *Event) ([]byte, error)) {
	e, buf := benchEvent(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = write(buf[:0], e); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}
