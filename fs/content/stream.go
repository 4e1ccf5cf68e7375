package content

// streamChunk is of how many bytes at once the disk is told. Files that are no longer are left to the kernel: many of them do not live to be written.
const streamChunk = 8 << 20

// streamReach is how far from each other writes may be that belong together: the kernel sends many at once, and they are made in any order.
const streamReach = 64 << 20

// stream watches direct writes for those that lie together in an object. When a chunk of them was written the disk begins with it, while the next one is encrypted:
// else all of it would wait for fsync. The zero value is ready. Not safe for concurrent use.
type stream struct {
	serial   uint64
	last     int64 // where the write before ended
	from, to int64 // around what was written and not begun with
	n        int64 // bytes of it
}

// wrote notes a write of n bytes at off, and returns the range to begin with now; it is empty most of the time.
func (s *stream) wrote(serial uint64, off, n int64) (from, length int64) {
	if serial != s.serial || off < s.last-streamReach || off > s.last+streamReach {
		*s = stream{serial: serial}
	}
	if s.n == 0 {
		s.from, s.to = off, off
	}
	s.from, s.to = min(s.from, off), max(s.to, off+n)
	s.last = off + n
	s.n += n
	if s.n < streamChunk {
		return 0, 0
	}
	s.n = 0
	return s.from, s.to - s.from
}
