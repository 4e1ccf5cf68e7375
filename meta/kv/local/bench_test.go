package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// benchStore opens a store with the default journal that checkpoints when due.
func benchStore(b *testing.B) *Store {
	b.Helper()
	opts := create(b)
	opts.SegmentSize, opts.MaxJournal = 0, 0
	return checkpointed(b, open(b, opts))
}

// checkpointed lets s checkpoint when due.
func checkpointed(b *testing.B, s *Store) *Store {
	b.Helper()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-s.CheckpointDue():
				if err := s.Checkpoint(ctx); err != nil && !errors.Is(err, kv.ErrClosed) {
					b.Error(err)
				}
			case <-stop:
				return
			}
		}
	}()
	b.Cleanup(func() { close(stop); <-done })
	return s
}

// reopened closes and opens a store, so that its rows are in Badger's tables.
func reopened(b *testing.B, s *Store) *Store {
	b.Helper()
	opts := s.opts
	key := *s.journal.key
	opts.Key = &key
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return open(b, opts)
}

func benchKey(kind byte, n uint64) []byte {
	k := make([]byte, 0, 17)
	k = append(k, kind)
	k = binary.BigEndian.AppendUint64(k, n*0x9e3779b97f4a7c15)
	return append(k, "12345678"...)
}

// benchUpdate is one transaction of a create: reads two rows, writes four of 100 to 400 bytes.
func benchUpdate(s *Store, n uint64) error {
	_, err := s.Update(ctx, kv.OpID{}, func(x kv.Txn) error {
		if _, err := x.Get(ctx, benchKey('A', n%100), benchKey('D', n)); err != nil {
			return err
		}
		x.Put(benchKey('A', n%100), make([]byte, 300))
		x.Put(benchKey('A', n+1000), make([]byte, 400))
		x.Put(benchKey('D', n), make([]byte, 110))
		x.Put(benchKey('X', n), make([]byte, 100))
		return nil
	})
	return err
}

func BenchmarkUpdate(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		if err := benchUpdate(s, n); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

func BenchmarkUpdateParallel(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	var n atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := benchUpdate(s, n.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkUpdateSync is an update that must survive a power cut.
func BenchmarkUpdateSync(b *testing.B) {
	s := benchStore(b)
	var n atomic.Uint64
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := benchUpdate(s, n.Add(1)); err != nil {
				b.Error(err)
				return
			}
			if err := s.Sync(ctx, kv.Rev(s.Stats().Sequence)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(s.Stats().Syncs)/float64(b.N), "flushes/op")
}

// BenchmarkGet reads one row of 20,000 in a View of its own, from the overlay and from Badger.
func BenchmarkGet(b *testing.B) {
	for _, where := range []string{"overlay", "badger"} {
		b.Run(where, func(b *testing.B) {
			s := benchStore(b)
			const rows = 20000
			for n := range uint64(rows / 4) {
				if err := benchUpdate(s, n); err != nil {
					b.Fatal(err)
				}
			}
			if where == "badger" {
				s = reopened(b, s)
			}
			b.ReportAllocs()
			n := uint64(0)
			for b.Loop() {
				n++
				err := s.View(ctx, func(r kv.Reader) error {
					v, err := r.Get(ctx, benchKey('D', n%(rows/4)))
					if err == nil && v[0] == nil {
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

// BenchmarkScan reads 100 rows in order.
func BenchmarkScan(b *testing.B) {
	for _, where := range []string{"overlay", "badger"} {
		b.Run(where, func(b *testing.B) {
			s := benchStore(b)
			for n := range uint64(5000) {
				if err := benchUpdate(s, n); err != nil {
					b.Fatal(err)
				}
			}
			if where == "badger" {
				s = reopened(b, s)
			}
			b.ReportAllocs()
			for b.Loop() {
				rows := 0
				err := s.View(ctx, func(r kv.Reader) error {
					return r.Scan(ctx, []byte("D"), []byte("E"), 100, func(_, _ []byte) bool { rows++; return true })
				})
				if err != nil || rows != 100 {
					b.Fatal(rows, err)
				}
			}
		})
	}
}

// BenchmarkRecovery opens a store with 50,000 records, 57 MB, in its journal.
func BenchmarkRecovery(b *testing.B) {
	opts := create(b)
	opts.SegmentSize, opts.MaxJournal = 0, 0
	s := open(b, opts)
	for n := range uint64(50000) {
		if err := benchUpdate(s, n); err != nil {
			b.Fatal(err)
		}
	}
	killed := copyStore(b, opts)
	killed.ReadOnly = true
	for b.Loop() {
		again, err := Open(ctx, killed)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(again.Stats().Recovery.Bytes)/1e6, "MB")
		if err := again.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a store of 400,000 rows, 110 MB, that was closed.
func BenchmarkOpen(b *testing.B) {
	s := benchStore(b)
	for n := range uint64(133000) {
		if err := benchUpdate(s, n); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		s = reopened(b, s)
	}
}
