package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// model is what a writer's directory must hold.
type model struct {
	files  map[string]*inode // hard links share one
	others map[string]string // symbolic links and their targets, directories with ""
}

type inode struct{ data []byte }

func newModel() *model { return &model{files: map[string]*inode{}, others: map[string]string{}} }

func (m *model) replay(t *testing.T, ops []operation) {
	t.Helper()
	for _, op := range ops {
		if err := m.apply(&op); err != nil {
			t.Fatal(err)
		}
	}
}

// apply does to the model what the operation does to the directory.
func (m *model) apply(op *operation) error {
	f := m.files[op.Name]
	switch op.Kind {
	case "create":
		m.files[op.Name] = &inode{}
		return nil
	case "symlink":
		m.others[op.Name] = op.To
		return nil
	case "mkdir":
		m.others[op.Name] = ""
		return nil
	case "remove":
		delete(m.others, op.Name)
		return nil
	}
	if f == nil {
		return fmt.Errorf("the journal has %s on a file that is not there", op)
	}
	switch op.Kind {
	case "write":
		f.data = written(f.data, op)
	case "truncate":
		f.data = resized(f.data, op.Len)
	case "unlink":
		delete(m.files, op.Name)
	case "rename":
		if m.files[op.To] != f { // two names of one file: rename does nothing
			delete(m.files, op.Name)
			m.files[op.To] = f
		}
	case "link":
		m.files[op.To] = f
	}
	return nil
}

func resized(b []byte, n int) []byte {
	out := make([]byte, n)
	copy(out, b)
	return out
}

func written(b []byte, op *operation) []byte {
	out := resized(b, max(len(b), op.Off+op.Len))
	copy(out[op.Off:], content(op.Seed, op.Len))
	return out
}

// check compares a directory with the model. What the pending operation touches may be as before or after it; content, anything between.
func (m *model) check(dir string, pending *operation) error {
	err := m.compare(dir, pending)
	if err == nil || pending == nil {
		return err
	}
	after := m.clone()
	if aerr := after.apply(pending); aerr != nil {
		return aerr
	}
	if aerr := after.compare(dir, pending); aerr != nil {
		return fmt.Errorf("neither as before (%w) nor as after (%w)", err, aerr)
	}
	return nil
}

func (m *model) clone() *model {
	c := &model{files: map[string]*inode{}, others: maps.Clone(m.others)}
	same := map[*inode]*inode{}
	for name, f := range m.files {
		if same[f] == nil {
			same[f] = &inode{data: bytes.Clone(f.data)}
		}
		c.files[name] = same[f]
	}
	return c
}

// compare is check for one of the two states of the namespace.
func (m *model) compare(dir string, pending *operation) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var got []string
	for _, e := range entries {
		if e.Name() != "unlinked" { // a file that may have been caught between its creation and its removal
			got = append(got, e.Name())
		}
	}
	want := slices.Sorted(maps.Keys(m.files))
	want = append(want, slices.Collect(maps.Keys(m.others))...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("names differ: there are %s, there should be %s", except(got, want), except(want, got))
	}
	for name, target := range m.others {
		if err := compareOther(filepath.Join(dir, name), target); err != nil {
			return err
		}
	}
	var torn *inode
	if pending != nil && (pending.Kind == "write" || pending.Kind == "truncate") {
		torn = m.files[pending.Name]
	}
	for name, f := range m.files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if f == torn {
			err = between(data, f.data, pending)
		} else if !bytes.Equal(data, f.data) {
			err = fmt.Errorf("%d bytes, want %d, first difference at %d", len(data), len(f.data), firstDifference(data, f.data))
		}
		if err != nil {
			return fmt.Errorf("content of %s: %w", name, err)
		}
	}
	return nil
}

func except(a, b []string) string {
	var only []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			only = append(only, s)
		}
	}
	return "[" + strings.Join(only, " ") + "]"
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func compareOther(path, target string) error {
	if target == "" {
		st, err := os.Lstat(path)
		if err == nil && !st.IsDir() {
			err = fmt.Errorf("%s is no directory", path)
		}
		return err
	}
	got, err := os.Readlink(path)
	if err == nil && got != target {
		err = fmt.Errorf("%s leads to %s, want %s", path, got, target)
	}
	return err
}

// between checks a file that an interrupted write or truncate has touched: its size is the old or the new one or lies between, each byte is that of the old or
// the new content, or zero where the file had none before.
func between(got, old []byte, op *operation) error {
	next := resized(old, op.Len)
	if op.Kind == "write" {
		next = written(old, op)
	}
	lo, hi := min(len(old), len(next)), max(len(old), len(next))
	if len(got) < lo || len(got) > hi {
		return fmt.Errorf("%d bytes, neither %d nor %d nor between", len(got), len(old), len(next))
	}
	for i, c := range got {
		switch {
		case i < len(old) && c == old[i], i < len(next) && c == next[i]:
		case c == 0 && i >= len(old):
		default:
			return fmt.Errorf("byte %d is of neither content", i)
		}
	}
	return nil
}

// adopt takes over what the interrupted operation has left: from now on that is what must be there.
func (m *model) adopt(dir string, pending *operation) error {
	if err := os.Remove(filepath.Join(dir, "unlinked")); err != nil && !os.IsNotExist(err) {
		return err
	}
	if pending == nil {
		return nil
	}
	if m.compare(dir, pending) != nil {
		if err := m.apply(pending); err != nil {
			return err
		}
	}
	if f := m.files[pending.Name]; f != nil {
		data, err := os.ReadFile(filepath.Join(dir, pending.Name))
		if err != nil {
			return err
		}
		f.data = data
	}
	return nil
}
