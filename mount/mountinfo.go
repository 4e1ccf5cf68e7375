package mount

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// fsType is the type column of our mounts.
const fsType = "fuse.kmsfs"

// mountEntry is one line of /proc/self/mountinfo, as far as we care.
type mountEntry struct {
	Device string // major:minor
	Point  string
	Type   string
	Source string
}

// mountTable reads the mounts this process sees, in the kernel's order: of two on one point the later is on top.
func mountTable() ([]mountEntry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	defer f.Close()
	return parseMountinfo(f)
}

// parseMountinfo reads proc(5)'s format: id parent major:minor root point options [tags] - type source options.
func parseMountinfo(r io.Reader) ([]mountEntry, error) {
	var table []mountEntry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 2 {
			continue
		}
		table = append(table, mountEntry{Device: l[2], Point: unescape(l[4]), Type: r[0], Source: unescape(r[1])})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return table, nil
}

// unescape undoes the kernel's octal escapes of blanks, newlines and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, ok := octal(s[i+1 : i+4]); ok {
				b.WriteByte(v)
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) (byte, bool) {
	v := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int(c-'0')
	}
	return byte(v), v < 256
}

// mountAt returns the topmost mount exactly at path, which is absolute and clean.
func mountAt(table []mountEntry, path string) (mountEntry, bool) {
	for i := len(table) - 1; i >= 0; i-- {
		if table[i].Point == path {
			return table[i], true
		}
	}
	return mountEntry{}, false
}

// mountHolding returns the mount that path, absolute and free of symbolic links, lies in.
func mountHolding(table []mountEntry, path string) (mountEntry, bool) {
	for {
		if m, ok := mountAt(table, path); ok {
			return m, true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return mountEntry{}, false
		}
		path = parent
	}
}

// within says whether path is dir or lies below it; both absolute and clean.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
