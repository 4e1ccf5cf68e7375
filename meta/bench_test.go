package meta_test

import (
	"fmt"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
	"github.com/kmsfs/kmsfs/meta/kv/memory"
	"github.com/kmsfs/kmsfs/meta/metatest"
)

// stores are what the benchmarks run on.
var stores = []struct {
	name string
	open func(b *testing.B) kv.Store
}{
	{"memory", func(*testing.B) kv.Store { return memory.New() }},
	{"local", func(b *testing.B) kv.Store {
		key, err := blockcrypt.NewKey()
		if err != nil {
			b.Fatal(err)
		}
		opt := local.Options{Dir: b.TempDir(), Key: key, Settler: forgetful{}}
		if err := local.Create(bg, opt); err != nil {
			b.Fatal(err)
		}
		s, err := local.Open(bg, opt)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s
	}},
}

// benchFiles makes files in directories of 1000, in setup.
func benchFiles(b *testing.B, v *metatest.Volume, n int) (dirs []meta.Ino) {
	for i := range n {
		if i%1000 == 0 {
			d, err := v.Create(bg, 1, fmt.Append(nil, "d", i), meta.NewNode{Mode: meta.ModeDir | 0o755})
			if err != nil {
				b.Fatal(err)
			}
			dirs = append(dirs, d.Ino)
		}
		if _, err := v.Create(bg, dirs[i/1000], fmt.Append(nil, "f", i), meta.NewNode{Mode: meta.ModeRegular | 0o644}); err != nil {
			b.Fatal(err)
		}
	}
	return dirs
}

func BenchmarkOps(b *testing.B) {
	const files = 5000
	for _, st := range stores {
		v := metatest.NewVolumeOn(b, st.open(b))
		dirs := benchFiles(b, v, files)
		cold := v.Open(b, meta.Config{CacheRows: -1})
		name := func(i int) (meta.Ino, []byte) { return dirs[i%files/1000], fmt.Append(nil, "f", i%files) }
		for _, bench := range []struct {
			name string
			op   func(i int) error
		}{
			{"create", func(i int) error {
				_, err := v.Create(bg, dirs[i%len(dirs)], fmt.Append(nil, "n", b.Name(), i, v.LastRev()), meta.NewNode{Mode: meta.ModeRegular})
				return err
			}},
			{"lookup", func(i int) error { d, n := name(i); _, err := v.Lookup(bg, d, n); return err }},
			{"lookup-uncached", func(i int) error { d, n := name(i); _, err := cold.Lookup(bg, d, n); return err }},
			{"getattr", func(i int) error { _, err := v.Getattr(bg, dirs[i%len(dirs)]); return err }},
			{"setattr", func(i int) error {
				_, err := v.SetAttr(bg, dirs[i%len(dirs)], func(a *meta.Attr) error { a.UID = uint32(i); return nil })
				return err
			}},
			{"readdirplus-1000", func(i int) error { _, err := v.ReadDirPlus(bg, dirs[i%len(dirs)], 0, 1000); return err }},
		} {
			b.Run(st.name+"/"+bench.name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := bench.op(i); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
