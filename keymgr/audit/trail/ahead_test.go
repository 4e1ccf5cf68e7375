package trail

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// padded opens a stream that makes room ahead, and puts some records into it.
func padded(t *testing.T, dir string, n *notary, records int) *Log {
	t.Helper()
	o := options(dir)
	o.Flushed = true
	l := open(t, o, n)
	for i := range records {
		e := event(i)
		e.Durable = true
		if err := l.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// segmentBytes gives the first segment of the stream, and how much of it is records.
func segmentBytes(t *testing.T, dir string) (data []byte, used int) {
	t.Helper()
	data, err := os.ReadFile(segment{dir: filepath.Join(dir, KeyStream)}.plain())
	if err != nil {
		t.Fatal(err)
	}
	return data, len(bytes.TrimRight(data, "\x00"))
}

// TestRoomAhead: the segment of a stream in which each record is flushed has written blocks behind its end; readers stop at them, also who follows; a clean end gives them back, and what a crash leaves of them
// is no tail that was cut off.
func TestRoomAhead(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
	l := padded(t, dir, n, 5)
	data, used := segmentBytes(t, dir)
	if room := len(data) - used; room < writeAhead/2 || data[used-1] != '\n' {
		t.Fatalf("%d bytes, of which %d are used", len(data), used)
	}
	tail, err := NewTail(dir, Query{})
	if err != nil {
		t.Fatal(err)
	}
	e := event(100)
	e.Durable, e.Path = true, "/followed"
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := tail.Follow(ctx, func(f Found) error {
		if f.Event.Path == "/followed" {
			cancel()
		}
		return nil
	}); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if again, _ := segmentBytes(t, dir); len(again) != len(data) {
		t.Errorf("one record changed the length of the file from %d to %d", len(data), len(again))
	}
	if got := len(inLog(t, dir)); got < 6 {
		t.Errorf("%d events are found", got)
	}
	whole(t, dir, n.trust())
	l.crash()
	l = padded(t, dir, n, 1)
	if cut, _ := filepath.Glob(filepath.Join(dir, KeyStream, "*"+cutSuffix)); len(cut) > 0 {
		t.Errorf("room for records was kept as a tail: %v", cut)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if data, used := segmentBytes(t, dir); len(data) != used {
		t.Errorf("after a clean end %d bytes, of which %d are used", len(data), used)
	}
	whole(t, dir, n.trust())
}

// TestRoomTorn: what a power cut leaves of a batch in room that was made before, the later pages of it without the first, is no record for any reader, is cut off and kept.
func TestRoomTorn(t *testing.T) {
	for _, whole := range []bool{false, true} { // pages of it that are missing: from the first on, from within a line
		dir, n := filepath.Join(t.TempDir(), "audit"), newNotary(t)
		l := padded(t, dir, n, 5)
		records := l.Status().Size
		l.crash()
		data, used := segmentBytes(t, dir)
		torn := append(append([]byte(nil), data[:used]...), make([]byte, 4096)...)
		if !whole {
			torn = append(append(torn[:used], `{"eventVersion":"1.11","userIdentity"`...), make([]byte, 4096)...)
		}
		torn = append(torn, "},\"sequence\":7}}\n{\"eventVersion\":\"1.11\"\x00\x00"...)
		if err := os.WriteFile(segment{dir: filepath.Join(dir, KeyStream)}.plain(), append(torn, make([]byte, 100)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := len(inLog(t, dir)); got == 0 || got > int(records) {
			t.Errorf("%d events of %d records", got, records)
		}
		reports, err := Verify(t.Context(), dir, n.trust())
		if err != nil || len(reports) != 1 || len(reports[0].Faults) > 0 || reports[0].Records != records {
			t.Errorf("%+v, %v", reports, err)
		}
		l = padded(t, dir, n, 1)
		if cut, _ := filepath.Glob(filepath.Join(dir, KeyStream, "*"+cutSuffix)); len(cut) != 1 {
			t.Errorf("kept is %v", cut)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRoomFull: where there is no space to make room in, records are written all the same as long as there is some for them.
func TestRoomFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k,mode=0700"); err != nil {
		if os.Getenv("KMSFS_REQUIRE") == "1" {
			t.Fatalf("mount a small tmpfs: %v", err)
		}
		t.Skipf("a small filesystem cannot be mounted, which root may: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "segment")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	o := &osFile{f: f, ahead: writeAhead}
	record := []byte(strings.Repeat("r", 1023) + "\n")
	written := 0
	for ; written < 200; written++ {
		if _, err := o.Write(record); err != nil {
			break
		}
	}
	if err := errors.Join(o.Truncate(int64(written*len(record))), o.Sync(), o.Close()); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || written < 64 || written > 128 || !bytes.Equal(data, bytes.Repeat(record, written)) {
		t.Errorf("%d records were taken, %d bytes are there, %v", written, len(data), err)
	}
}
