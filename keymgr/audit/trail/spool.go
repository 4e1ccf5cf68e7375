package trail

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// spool is where events of access are acknowledged before the writer has got to them: a ring in a file of fixed size on tmpfs, which outlives this process and not the host. To put something there
// neither wakes anybody nor waits for a disk. The next writer of the stream finds what the last one left. docs/FORMAT.md, section 14.
type spool struct {
	f    *os.File
	mem  []byte // the file, mapped
	head uint64 // logical end of what is in it
	done uint64 // logical end of what the log has
	seen uint64 // size of the stream when done was set
	owed int    // bytes of the lines in it that the log does not have

	forms formSlots
}

const (
	spoolMagic  = "kmsfspol"
	spoolHeader = 64
	spoolRing   = spoolHeader + formSlotCount*formSlotSize // where the ring begins
	spoolSize   = 1 << 20                                  // of the ring, and of the lines that it may stand for
	spoolFile   = spoolRing + spoolSize
	spoolFrame  = 24 // length u32 of what is behind the frame's head, CRC-32C u32 of what follows, logical position u64, number of the form u64
)

// errNoSpool: the directory keeps nothing in memory.
var errNoSpool = errors.New("not a tmpfs")

// spoolPath is the spool of a stream's directory: by its identity, because several key stores may have the same volume.
func spoolPath(in, stream string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(stream, &st); err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%d", st.Dev, st.Ino))
	return filepath.Join(in, hex.EncodeToString(sum[:8])+".audit"), nil
}

// openSpool opens or makes the spool at path, and gives the lines that the log may not have. errNoSpool if path is not on tmpfs.
func openSpool(path string) (s *spool, found [][]byte, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &fs); err != nil {
		return nil, nil, err
	}
	if int64(fs.Type) != unix.TMPFS_MAGIC {
		return nil, nil, errNoSpool
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, fileMode)
	if err != nil {
		return nil, nil, err
	}
	s = &spool{f: f}
	if found, err = s.load(); err == nil {
		s.mem, err = unix.Mmap(int(f.Fd()), 0, spoolFile, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("audit spool %s: %w", path, err)
	}
	return s, found, nil
}

// load reads what is there; a file that is none of ours, or of another version, is begun anew.
func (s *spool) load() ([][]byte, error) {
	st, err := s.f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: it is %v", ErrUnsafe, st.Mode())
	}
	data := make([]byte, spoolFile)
	n, err := s.f.ReadAt(data, 0)
	if n == len(data) && string(data[:len(spoolMagic)]) == spoolMagic && crc32.Checksum(data[:spoolHeader-4], castagnoli) == binary.BigEndian.Uint32(data[spoolHeader-4:]) {
		s.done, s.seen = binary.BigEndian.Uint64(data[8:]), binary.BigEndian.Uint64(data[16:])
		s.forms.load(data[spoolHeader:spoolRing])
		lines := s.frames(data[spoolRing:])
		s.forms.keep(s.head)
		return lines, nil
	}
	if n == len(data) && err != nil {
		return nil, err
	}
	if err := s.f.Truncate(0); err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(s.f.Fd()), 0, 0, int64(len(data))); err != nil {
		return nil, err
	}
	return nil, s.mark(0, 0)
}

// frames gives the lines from done on, and puts head behind them.
func (s *spool) frames(ring []byte) (lines [][]byte) {
	for s.head = s.done; s.head-s.done < spoolSize; {
		h := takeRing(nil, ring, s.head, spoolFrame)
		n := binary.BigEndian.Uint32(h)
		if n == 0 || n > spoolSize-spoolFrame || s.head-s.done+spoolFrame+uint64(n) > spoolSize || binary.BigEndian.Uint64(h[8:]) != s.head {
			break
		}
		body := takeRing(nil, ring, s.head+8, spoolFrame-8+int(n))
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(h[4:]) {
			break
		}
		line := body[spoolFrame-8:]
		if number := binary.BigEndian.Uint64(h[16:]); number != 0 {
			form := s.forms.of(number)
			if form == nil {
				break
			}
			var err error
			if line, err = form.Join(nil, line); err != nil {
				break
			}
		}
		lines = append(lines, line)
		s.head += spoolFrame + uint64(n)
	}
	return lines
}

// takeRing appends n bytes from a logical position on.
func takeRing(b, ring []byte, at uint64, n int) []byte {
	i := int(at % spoolSize)
	k := min(n, len(ring)-i)
	return append(append(b, ring[i:i+k]...), ring[:n-k]...)
}

// put adds an event, and gives the logical end of it and the length of its line: of the line itself, if form is nil, or of a form and what the event has beyond it. fits is false where the form has
// no place now; end is 0 if there is no room.
func (s *spool) put(form *audit.Form, rest []byte) (end uint64, length int, fits bool) {
	var number uint64
	length = len(rest)
	if form != nil {
		if number = s.formNumber(form); number == 0 {
			return 0, 0, false
		}
		length = form.Length(rest)
	}
	n := uint64(spoolFrame + len(rest))
	if s.head-s.done+n > spoolSize || s.owed+length > spoolSize {
		return 0, 0, true
	}
	var h [spoolFrame]byte
	be := binary.BigEndian
	be.PutUint32(h[:], uint32(len(rest)))
	be.PutUint64(h[8:], s.head)
	be.PutUint64(h[16:], number)
	be.PutUint32(h[4:], crc32.Update(crc32.Checksum(h[8:], castagnoli), castagnoli, rest))
	s.copy(s.head+spoolFrame, rest)
	s.copy(s.head, h[:])
	s.head += n
	s.owed += length
	if form != nil {
		s.forms.used(number, s.head)
	}
	return s.head, length, true
}

// copy puts bytes at a logical position.
func (s *spool) copy(at uint64, p []byte) {
	ring := s.mem[spoolRing:]
	n := copy(ring[at%spoolSize:], p)
	copy(ring, p[n:])
}

// appendLine appends the line of the frame at a logical position, and gives the position of the next. The frame is one that put wrote, and that is not done.
func (s *spool) appendLine(b []byte, at uint64) (line []byte, next uint64, err error) {
	ring := s.mem[spoolRing:]
	var head [spoolFrame]byte
	h := takeRing(head[:0], ring, at, spoolFrame)
	n := int(binary.BigEndian.Uint32(h))
	from := (at + spoolFrame) % spoolSize
	next = at + spoolFrame + uint64(n)
	number := binary.BigEndian.Uint64(h[16:])
	if number == 0 {
		return takeRing(b, ring, from, n), next, nil
	}
	rest := ring[from:]
	if len(rest) < n {
		rest = takeRing(nil, ring, from, n)
	}
	form := s.forms.of(number)
	if form == nil {
		return b, next, fmt.Errorf("audit spool: form %d is not there", number)
	}
	line, err = form.Join(b, rest[:n])
	return line, next, err
}

// mark notes that the log, of this size now, has everything up to end. Owed is up to the caller.
func (s *spool) mark(end uint64, size int64) error {
	h := make([]byte, spoolHeader)
	copy(h, spoolMagic)
	binary.BigEndian.PutUint64(h[8:], end)
	binary.BigEndian.PutUint64(h[16:], uint64(size))
	binary.BigEndian.PutUint32(h[spoolHeader-4:], crc32.Checksum(h[:spoolHeader-4], castagnoli))
	if _, err := s.f.WriteAt(h, 0); err != nil {
		return err
	}
	s.done, s.seen = end, uint64(size)
	return nil
}

// close gives the spool up; remove takes the file away, when nothing is in it.
func (s *spool) close(remove bool) error {
	var err error
	if remove && s.head == s.done {
		err = os.Remove(s.f.Name())
	}
	mem := s.mem
	s.mem = nil
	return errors.Join(err, unix.Munmap(mem), s.f.Close())
}
