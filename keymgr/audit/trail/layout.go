package trail

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
)

// KeyStream is the stream of the key daemon. That of a file daemon is its volume's id.
const KeyStream = "keyd"

// Names of files in a stream's directory.
const (
	lockName    = "lock"
	reserveName = "reserve"
	plainSuffix = ".jsonl"
	zstdSuffix  = ".jsonl.zst"
	indexSuffix = ".index"
	cutSuffix   = ".cut"
	digits      = 16 // of a record's number in a name
)

// segment is a file of records.
type segment struct {
	dir    string
	first  int64 // number of its first record
	packed bool  // compressed
}

func (s segment) stem() string  { return filepath.Join(s.dir, fmt.Sprintf("%0*d", digits, s.first)) }
func (s segment) plain() string { return s.stem() + plainSuffix }
func (s segment) index() string { return s.stem() + indexSuffix }
func (s segment) path() string {
	if s.packed {
		return s.stem() + zstdSuffix
	}
	return s.plain()
}

// listSegments gives a stream's segments in order. A segment that is there both ways is in the middle of being compressed: the plain one counts.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[int64]segment{}
	for _, e := range entries {
		stem, packed := strings.CutSuffix(e.Name(), zstdSuffix)
		if !packed {
			var plain bool
			if stem, plain = strings.CutSuffix(e.Name(), plainSuffix); !plain {
				continue
			}
		}
		first, err := strconv.ParseInt(stem, 10, 64)
		if err != nil || first < 0 || len(stem) != digits {
			continue
		}
		if s, ok := found[first]; ok && !s.packed {
			continue
		}
		found[first] = segment{dir, first, packed}
	}
	var out []segment
	for _, s := range found {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	return out, nil
}

// Streams lists the streams of a log, sorted. ErrNoLog if there is no such directory.
func Streams(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoLog, dir)
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && seal.ValidStream(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
