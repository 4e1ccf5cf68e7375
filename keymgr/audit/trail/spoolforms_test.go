package trail

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// opening is an open of a file by a user, which is what differs between forms.
func opening(user, i int) *audit.Event {
	e := &audit.Event{Class: audit.Access, Source: audit.Files, Name: audit.Open, Time: time.Unix(1800000000, int64(i)*1000), ID: audit.NewID(), Decision: audit.Allow}
	e.UID, e.PID, e.Path, e.Inode = user, 100+i, fmt.Sprintf("/acked/%d", i), uint64(i)
	return e
}

// putEvent puts an event as Log does, and gives its line; false if it has no room.
func putEvent(t *testing.T, s *spool, forms *audit.Forms, e *audit.Event) (line string, whole, ok bool) {
	t.Helper()
	line = string(must(e.Append(nil)))
	if form, rest := forms.Split(nil, e); form != nil {
		if end, length, fits := s.put(form, rest); fits {
			if end != 0 && length != len(line) {
				t.Fatalf("%d bytes, not %d", length, len(line))
			}
			return line, false, end != 0
		}
	}
	end, _, _ := s.put(nil, []byte(line))
	return line, true, end != 0
}

// TestSpoolForms: events of more users than there are forms, over several rounds of the ring, are read as they were put: by the writer, and by the next one after a crash, while everything that is not
// done needs its form.
func TestSpoolForms(t *testing.T) {
	path := filepath.Join(tmpfs(t), "x.audit")
	s, _, err := openSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	var forms audit.Forms
	type frame struct {
		line string
		end  uint64
	}
	var undone []frame
	take := func(i, n int) { // the writer
		at := s.done
		for _, f := range undone[:n] {
			got, next, err := s.appendLine(nil, at)
			if err != nil || string(got) != f.line || next != f.end {
				t.Fatalf("event %d: %v, %d\n%s\nwant %d\n%s", i, err, next, got, f.end, f.line)
			}
			at = next
			s.owed -= len(f.line)
		}
		if err := s.mark(at, int64(i)); err != nil {
			t.Fatal(err)
		}
		undone = undone[n:]
	}
	whole, rounds := 0, uint64(0)
	for i := 0; rounds < 3 || i < 20000; i++ {
		user := i / 10 % (3 * audit.MaxForms)
		if i%7 == 0 {
			user = i % (2 * audit.MaxForms) // forms go and come back
		}
		line, plain, ok := putEvent(t, s, &forms, opening(user, i))
		if !ok {
			t.Fatalf("event %d has no room", i)
		}
		if plain {
			whole++
		}
		if undone = append(undone, frame{line, s.head}); len(undone) > 100+i%400 {
			take(i, len(undone)/2)
		}
		rounds = s.head / spoolSize
		if i%1000 == 999 { // a crash: the file is what it is
			var want []string
			for _, f := range undone {
				want = append(want, f.line)
			}
			again, found, err := openSpool(path)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, line := range found {
				got = append(got, string(line))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("event %d: after a crash %d of %d", i, len(got), len(want))
			}
			if i%2000 == 999 { // and goes on with it, behind what is there
				if err := s.close(false); err != nil {
					t.Fatal(err)
				}
				s, forms = again, audit.Forms{}
				s.owed = 0
				for _, f := range undone {
					s.owed += len(f.line)
				}
			} else if err := again.close(false); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d events were put as whole lines, because their form had no place", whole)
	if whole == 0 {
		t.Error("forms never were in the way of each other: the test shows less than it says")
	}
}

// TestSpoolFormDamaged: a frame whose form is not what it was ends what is believed.
func TestSpoolFormDamaged(t *testing.T) {
	path := filepath.Join(tmpfs(t), "x.audit")
	s, _, err := openSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	var forms audit.Forms
	for i, user := range []int{1, 1, 2, 1} {
		if _, whole, ok := putEvent(t, s, &forms, opening(user, i)); !ok || whole {
			t.Fatal("not put as a form")
		}
	}
	form, _ := forms.Split(nil, opening(2, 0))
	if err := s.close(false); err != nil {
		t.Fatal(err)
	}
	again, found, err := openSpool(path)
	if err != nil || len(found) != 4 {
		t.Fatal(len(found), err)
	}
	if _, err := again.f.WriteAt([]byte{'?'}, int64(spoolHeader+form.Place()*formSlotSize+formSlotHead+100)); err != nil {
		t.Fatal(err)
	}
	if err := again.close(false); err != nil {
		t.Fatal(err)
	}
	if _, found, err := openSpool(path); err != nil || len(found) != 2 {
		t.Errorf("%d lines, %v", len(found), err)
	}
}

// TestSpoolFormTooLarge: a form that no place can hold is not one: its events are put as lines.
func TestSpoolFormTooLarge(t *testing.T) {
	s, _, err := openSpool(filepath.Join(tmpfs(t), "x.audit"))
	if err != nil {
		t.Fatal(err)
	}
	var forms audit.Forms
	e := opening(1, 1)
	e.Program = "/" + string(make([]byte, formSlotSize))
	if _, whole, ok := putEvent(t, s, &forms, e); !whole || !ok {
		t.Errorf("whole %v, put %v", whole, ok)
	}
	if err := s.close(true); err != nil {
		t.Fatal(err)
	}
}
