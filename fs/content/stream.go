package content

// streamChunk is of how many bytes at once the disk is told. Files that are no longer are left to the kernel: many of them do not live to be written.
const streamChunk = 8 << 20

// stream watches direct writes for those that follow each other in an object. Of each chunk of them the disk begins with the one before, while the next one is encrypted:
// else all of it would wait for fsync. The zero value is ready. Not safe for concurrent use.
type stream struct {
	serial   uint64
	from, to int64 // written, and not begun with
}

// wrote notes a write of n bytes at off, and returns the range to begin with now; it is empty most of the time.
func (s *stream) wrote(serial uint64, off, n int64) (from, length int64) {
	if serial != s.serial || off != s.to {
		*s = stream{serial: serial, from: off, to: off}
	}
	s.to += n
	if s.to-s.from < streamChunk {
		return 0, 0
	}
	from, length = s.from, s.to-s.from
	s.from = s.to
	return from, length
}
