//go:build !race

package blockcrypt

import "testing"

// TestBlockAllocations: sealing and opening allocate nothing, whatever the
// number of blocks. (The race detector makes sync.Pool drop entries.)
func TestBlockAllocations(t *testing.T) {
	const bs, n = MinBlockSize, 16 * MinBlockSize
	c := newTestCipher(t, bs)
	plain, buf, exact := make([]byte, n), NewBuffer(n), make([]byte, n)
	entries := make([]Sealed, 0, n/bs)
	one, err := c.Seal(exact[:bs:bs], plain[:bs], 0)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range map[string]func(){
		"Seal":           func() { must(second(c.Seal(buf[:bs], plain[:bs], 0))) },
		"Seal, no spare": func() { must(second(c.Seal(buf[:bs:bs], plain[:bs], 0))) },
		"Open":           func() { must(c.Open(plain[:bs], exact[:bs], 0, one)) },
		"SealRun":        func() { must(second(c.SealRun(buf, plain, 0, entries))) },
		"SealRun, exact": func() { must(second(c.SealRun(exact[:n:n], plain, 0, entries))) },
		"SealRun, OpenRun": func() {
			sealed, err := c.SealRun(buf, plain, 0, entries)
			must(err)
			must(second(c.OpenRun(buf, buf, 0, sealed)))
		},
	} {
		if name == "Open" { // the cases share exact
			one, err = c.Seal(exact[:bs:bs], plain[:bs], 0)
			must(err)
		}
		if allocs := testing.AllocsPerRun(50, f); allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func TestNameHasherAllocations(t *testing.T) {
	h, name := NewNameHasher(&Key{1}), []byte("a name of usual length")
	if allocs := testing.AllocsPerRun(50, func() { h.Tag(NameDentry, 1, name) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}
