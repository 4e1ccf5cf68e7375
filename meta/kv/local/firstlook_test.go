package local

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// fileKeys are the rows of file n that a lookup reads: a name in one of many directories, an inode.
func fileKeys(n uint64) (name, attr []byte) {
	name = binary.BigEndian.AppendUint64([]byte{'D'}, n/1000+2)
	name = binary.BigEndian.AppendUint64(name, n*0x9e3779b97f4a7c15)
	name = append(name, "01234567"...)
	return name, binary.BigEndian.AppendUint64([]byte{'A'}, n)
}

// BenchmarkFirstLook reads the two rows of a file that nobody has asked for since the store was opened. Few files are the first in their ranges in a small store, nearly all in a large one.
func BenchmarkFirstLook(b *testing.B) {
	for _, files := range []uint64{10_000, 1_000_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			s := benchStore(b)
			const each = 500
			for n := uint64(0); n < files; n += each {
				_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
					for i := n; i < n+each; i++ {
						name, attr := fileKeys(i)
						x.Put(name, make([]byte, 110))
						x.Put(attr, make([]byte, 250))
						x.Put(binary.BigEndian.AppendUint64([]byte{'I'}, i), make([]byte, 150))
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			rng := rand.New(rand.NewPCG(1, 2))
			const looks = 400
			for n := 0; b.Loop(); n++ {
				if n%looks == 0 {
					b.StopTimer()
					s = reopened(b, s)
					b.StartTimer()
				}
				name, attr := fileKeys(rng.Uint64N(files))
				err := s.View(ctx, func(r kv.Reader) error {
					v, err := r.Get(ctx, name, attr)
					if err == nil && (v[0] == nil || v[1] == nil) {
						err = fmt.Errorf("row %d is missing", n)
					}
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
