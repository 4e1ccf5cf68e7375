package trail

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Archive is closed segments of one stream that can be taken out of the log.
type Archive struct {
	Stream string
	UpTo   int64 // the first record that stays
	Bytes  int64

	segments []segment
}

// PlanArchive finds, for each stream, the compressed segments in which every event is older than before, from the first on.
func PlanArchive(dir string, before time.Time) ([]Archive, error) {
	streams, err := Streams(dir)
	if err != nil {
		return nil, err
	}
	var out []Archive
	for _, stream := range streams {
		segments, err := listSegments(filepath.Join(dir, stream))
		if err != nil {
			return nil, err
		}
		a := Archive{Stream: stream}
		for i, s := range segments {
			if !s.packed || i == len(segments)-1 {
				break
			}
			blocks, _, err := readIndex(s)
			if err != nil {
				return nil, fmt.Errorf("archive stream %s: %w", stream, err)
			}
			if n := len(blocks); n > 0 && !time.UnixMicro(blocks[n-1].max).Before(before) {
				break
			}
			st, err := os.Stat(s.path())
			if err != nil {
				return nil, err
			}
			a.segments, a.UpTo, a.Bytes = append(a.segments, s), segments[i+1].first, a.Bytes+st.Size()
		}
		if len(a.segments) > 0 {
			out = append(out, a)
		}
	}
	return out, nil
}

// Copy copies the segments into to, durably, with what is needed to search them there; files that are there are not replaced, but must be the same.
func (a *Archive) Copy(ctx context.Context, to string) error {
	dir := filepath.Join(to, a.Stream)
	for _, d := range []string{to, dir} {
		if err := prepareDir(d); err != nil {
			return err
		}
	}
	for _, s := range a.segments {
		for _, from := range []string{s.path(), s.index()} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := copyFile(from, filepath.Join(dir, filepath.Base(from))); err != nil {
				return fmt.Errorf("archive %s: %w", from, err)
			}
		}
	}
	return syncDir(dir)
}

// Remove takes the copied segments out of the log, after the key manager has noted that.
func (a *Archive) Remove() error {
	for _, s := range a.segments {
		if err := errors.Join(os.Remove(s.path()), os.Remove(s.index())); err != nil {
			return err
		}
	}
	return syncDir(a.segments[0].dir)
}

// copyFile copies a file and reads the copy again.
func copyFile(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, fileMode)
	if errors.Is(err, os.ErrExist) {
		if _, err := io.Copy(h, in); err != nil {
			return err
		}
		return sameContent(to, h.Sum(nil))
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		_ = os.Remove(to)
		return err
	}
	return sameContent(to, h.Sum(nil))
}

func sameContent(path string, want []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if string(h.Sum(nil)) != string(want) {
		return fmt.Errorf("%w: %s is another file", ErrDamaged, path)
	}
	return nil
}
