package content

import "testing"

// Of writes that follow each other every byte is begun with once, but for the end; of others none is.
func TestStream(t *testing.T) {
	const step = 1 << 20
	var s stream
	next := int64(0)
	for off := int64(0); off < 3*streamChunk+step; off += step {
		from, n := s.wrote(1, off, step)
		if n == 0 {
			continue
		}
		if from != next || n != streamChunk || from+n != off+step {
			t.Errorf("after %d bytes: %d from %d", off+step, n, from)
		}
		next = from + n
	}
	if next != 3*streamChunk {
		t.Errorf("begun with %d bytes", next)
	}
	for i := range int64(3 * streamChunk / step) {
		if _, n := s.wrote(1, (i+100)*2*step, step); n > 0 {
			t.Fatal("writes with gaps are taken for a stream")
		}
	}
	for i := range int64(3 * streamChunk / step) {
		if _, n := s.wrote(uint64(i), i*step, step); n > 0 {
			t.Fatal("writes to several objects are taken for a stream")
		}
	}
}
