package blockcrypt

import (
	"fmt"
	"testing"
)

// BenchmarkSealRun and BenchmarkOpenRun seal and open 1 MiB, the longest
// request of the kernel, in blocks of different sizes.
func BenchmarkSealRun(b *testing.B) {
	for _, bs := range blockSizes {
		b.Run(fmt.Sprintf("%dKiB", bs>>10), func(b *testing.B) {
			c, plain, dst := newTestCipher(b, bs), make([]byte, 1<<20), NewBuffer(1<<20)
			out := make([]Sealed, 0, len(plain)/bs)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.SealRun(dst, plain, 0, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenRun(b *testing.B) {
	for _, bs := range blockSizes {
		b.Run(fmt.Sprintf("%dKiB", bs>>10), func(b *testing.B) {
			c, plain, dst := newTestCipher(b, bs), make([]byte, 1<<20), NewBuffer(1<<20)
			sealed, err := c.SealRun(dst, plain, 0, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.OpenRun(plain, dst, 0, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNewBlockCipher is what the first use of a file's key costs.
func BenchmarkNewBlockCipher(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewBlockCipher(&Key{1}, FileID{}, MinBlockSize, SuiteAES256GCM); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRow seals and opens a row of 300 bytes.
func BenchmarkRow(b *testing.B) {
	s, row, aad := testSealer(b, 1), make([]byte, 300), make([]byte, 36)
	sealed, err := s.Seal(nil, row, aad)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Seal(nil, row, aad)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Open(nil, sealed, aad)
		}
	})
}

func BenchmarkNameTag(b *testing.B) {
	h, name := NewNameHasher(&Key{1}), []byte("a-file-name.go")
	b.ReportAllocs()
	for b.Loop() {
		h.Tag(NameDentry, 7, name)
	}
}
