package content

import (
	"fmt"
	"testing"
)

// The benchmarks measure the engine on kv/local in a directory, without a kernel.

func benchFile(b *testing.B, blockSize uint32) *File {
	b.Helper()
	r := newRig(b, rigOptions{disk: true, blockSize: blockSize, large: true})
	f := r.file()
	b.Cleanup(func() { f.Close() })
	return f
}

// BenchmarkWriteSequential writes new files of 64 MiB in pieces of 1 MiB.
func BenchmarkWriteSequential(b *testing.B) {
	for _, bs := range []uint32{4096, 131072} {
		b.Run(sizeName(bs), func(b *testing.B) {
			f := benchFile(b, bs)
			p := pattern(1<<20, 1)
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%64 == 0 && i > 0 {
					must(b, f.Truncate(ctx, 0, WriteOpts{}))
					b.StopTimer()
					must(b, f.e.Checkpoint(ctx))
					b.StartTimer()
				}
				mustWrite(b, f, p, uint64(i%64)<<20)
			}
		})
	}
}

// BenchmarkReadSequential reads a file of 64 MiB in pieces of 1 MiB.
func BenchmarkReadSequential(b *testing.B) {
	for _, bs := range []uint32{4096, 131072} {
		b.Run(sizeName(bs), func(b *testing.B) {
			f := benchFile(b, bs)
			p := pattern(1<<20, 1)
			for i := range 64 {
				mustWrite(b, f, p, uint64(i)<<20)
			}
			must(b, f.e.Checkpoint(ctx))
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := f.ReadAt(ctx, p, uint64(i%64)<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReadRandom reads 4 KiB at random places of a file of 64 MiB.
func BenchmarkReadRandom(b *testing.B) {
	f := benchFile(b, 4096)
	p := pattern(1<<20, 1)
	for i := range 64 {
		mustWrite(b, f, p, uint64(i)<<20)
	}
	must(b, f.e.Checkpoint(ctx))
	b.SetBytes(4096)
	b.ReportAllocs()
	x := uint64(1)
	for b.Loop() {
		x = x*6364136223846793005 + 1442695040888963407
		if _, err := f.ReadAt(ctx, p[:4096], x>>50<<12); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOverwrite overwrites 4 KiB at random places: images.
func BenchmarkOverwrite(b *testing.B) {
	f := benchFile(b, 4096)
	p := pattern(1<<20, 1)
	for i := range 16 {
		mustWrite(b, f, p, uint64(i)<<20)
	}
	must(b, f.e.Checkpoint(ctx))
	b.SetBytes(4096)
	b.ReportAllocs()
	x := uint64(1)
	for b.Loop() {
		x = x*6364136223846793005 + 1442695040888963407
		mustWrite(b, f, p[:4096], x>>52<<12)
	}
}

// BenchmarkSmallFile makes, writes, reads and closes files of 2 KiB, in their inline row and in slots.
func BenchmarkSmallFile(b *testing.B) {
	for _, inline := range []int{0, 4096} {
		b.Run(map[int]string{0: "slots", 4096: "inline"}[inline], func(b *testing.B) {
			r := newRig(b, rigOptions{disk: true, inline: inline, large: true})
			p := pattern(2048, 1)
			b.ReportAllocs()
			for b.Loop() {
				f := r.file()
				mustWrite(b, f, p, 0)
				mustRead(b, f, 0, 2048)
				must(b, f.Close())
			}
		})
	}
}

// BenchmarkSyncedAppend appends 1 KiB and syncs, as a log does.
func BenchmarkSyncedAppend(b *testing.B) {
	f := benchFile(b, 4096)
	p := pattern(1024, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		mustWrite(b, f, p, uint64(i)*1024)
		must(b, f.Sync(ctx))
	}
}

func sizeName(n uint32) string { return fmt.Sprintf("%dK", n>>10) }

// BenchmarkReencrypt moves a file of 128 MiB to another object, beside what writing it costs.
func BenchmarkReencrypt(b *testing.B) {
	for _, to := range []int{4096, 131072} {
		b.Run(fmt.Sprint("to", to), func(b *testing.B) {
			r := newRig(b, rigOptions{disk: true, large: true})
			data := noise(128<<20, 1)
			f := r.file()
			defer f.Close()
			b.Run("write", func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					must(b, f.Truncate(ctx, 0, WriteOpts{}))
					for at := 0; at < len(data); at += maxChunk {
						mustWrite(b, f, data[at:at+maxChunk], uint64(at))
					}
					must(b, f.Sync(ctx))
				}
			})
			b.Run("reencrypt", func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				p := *r.params()
				for i := 0; b.Loop(); i++ {
					p.BlockSize = uint32([]int{to, 4096}[i%2])
					must(b, r.moveTo(p, goOn, f.Ino()))
					must(b, f.Sync(ctx))
				}
			})
		})
	}
}
