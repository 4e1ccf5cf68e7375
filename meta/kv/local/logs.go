package local

import (
	"encoding/binary"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Badger's logs (*.mem, *.vlog): 20 bytes, then entries: meta u8, user meta u8, length of key, length of value, expiry (varints), key,
// value, CRC-32C. Badger makes room for what an entry says before it looks further: gigabytes, and more than fits, which ends the process.
const (
	logHeader    = 20
	logMaxKey    = 1 << 16
	logEntrySums = 4
	maxLog       = 4 * largeMemTable // Badger's are at most twice its table in memory
)

// cutLog removes a log of no length, which Badger does not open, and cuts one at the first entry that cannot be whole: Badger would end
// there too. Nothing is written to a log that is as it should be.
func cutLog(path string, size int64) error {
	if size == 0 {
		return os.Remove(path)
	}
	b, err := readToHole(path)
	if err != nil {
		return err
	}
	if end := logEnd(b); end < len(b) {
		return os.Truncate(path, int64(end))
	}
	return nil
}

// readToHole reads a file up to its first hole: a log is a large one of which little is used.
func readToHole(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := f.Seek(0, unix.SEEK_HOLE)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(end, maxLog))
	_, err = io.ReadFull(f, b)
	return b, err
}

// logEnd returns where the first entry begins that cannot be whole, or the length of the log. Zeros are the end of a log that is not
// full, as Badger makes them.
func logEnd(b []byte) int {
	for off := logHeader; off < len(b); {
		n, ok := logEntry(b[off:])
		if !ok {
			return off
		}
		if n == 0 {
			return len(b)
		}
		off += n
	}
	return len(b)
}

// logEntry returns the length of the entry at the front of b, 0 for the zeros behind the last one. ok is false if it cannot be whole.
func logEntry(b []byte) (n int, ok bool) {
	rest := b[min(2, len(b)):]
	var fields [3]uint64 // lengths of key and value, expiry
	for i := range fields {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, false
		}
		fields[i], rest = v, rest[n:]
	}
	key, value := fields[0], fields[1]
	if key == 0 && value == 0 {
		return 0, true
	}
	if key == 0 || key > logMaxKey || value > uint64(len(rest)) || key+value+logEntrySums > uint64(len(rest)) {
		return 0, false
	}
	return len(b) - len(rest) + int(key+value) + logEntrySums, true
}
