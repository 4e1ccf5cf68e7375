package meta

import "testing"

// fuzzRow fuzzes the decoder of one encoding: it refuses with ErrCorrupt, or what it read encodes to the same bytes.
func fuzzRow(f *testing.F, name string) {
	for _, e := range encodings {
		if e.name != name {
			continue
		}
		f.Add(unhex(f, e.golden))
		f.Fuzz(func(t *testing.T, b []byte) { canonical(t, e.again, b) })
		return
	}
	f.Fatalf("no encoding %q", name)
}

func FuzzAttr(f *testing.F)    { fuzzRow(f, "file") }
func FuzzRoot(f *testing.F)    { fuzzRow(f, "dir") }
func FuzzMapRow(f *testing.F)  { fuzzRow(f, "map") }
func FuzzDentry(f *testing.F)  { fuzzRow(f, "dentry") }
func FuzzSymlink(f *testing.F) { fuzzRow(f, "symlink") }
func FuzzXattr(f *testing.F)   { fuzzRow(f, "xattr") }
func FuzzInline(f *testing.F)  { fuzzRow(f, "inline") }
func FuzzGarbage(f *testing.F) { fuzzRow(f, "garbage") }
func FuzzCounter(f *testing.F) { fuzzRow(f, "counter") }
func FuzzZone(f *testing.F)    { fuzzRow(f, "zone") }
func FuzzKept(f *testing.F)    { fuzzRow(f, "kept") }
