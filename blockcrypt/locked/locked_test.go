package locked

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestBufferSizes(t *testing.T) {
	page := os.Getpagesize()
	for _, n := range []int{1, 31, 32, page - 1, page, page + 1, MaxSize} {
		b, err := New(n)
		if err != nil {
			t.Fatalf("New(%d): %v", n, err)
		}
		if len(b.Bytes()) != n || cap(b.Bytes()) != n || b.Len() != n {
			t.Errorf("New(%d): len %d cap %d Len %d", n, len(b.Bytes()), cap(b.Bytes()), b.Len())
		}
		if !bytes.Equal(b.Bytes(), make([]byte, n)) {
			t.Errorf("New(%d) is not zero", n)
		}
		b.Bytes()[n-1] = 7
		b.Close()
		b.Close()
		if b.Bytes() != nil {
			t.Errorf("bytes of a closed buffer of %d", n)
		}
	}
	for _, n := range []int{-1, 0, MaxSize + 1} {
		if _, err := New(n); !errors.Is(err, ErrSize) {
			t.Errorf("New(%d): %v, want ErrSize", n, err)
		}
	}
}

func TestMappings(t *testing.T) {
	for name, m := range map[string]func(int) ([]byte, error){"secret": mapSecret, "private": mapPrivate} {
		region, err := m(os.Getpagesize())
		if name == "secret" && errors.Is(err, unix.ENOSYS) {
			t.Log("this kernel has no memfd_secret")
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		copy(region, "hunter2")
		flags := vmFlags(t, region)
		for _, want := range []string{"lo", "dd"} { // locked, not dumped
			if !strings.Contains(flags, " "+want+" ") {
				t.Errorf("%s mapping has flags %q, want %s", name, flags, want)
			}
		}
		if !strings.Contains(flags, " dc ") && !strings.Contains(flags, " wf ") { // no copy, or wiped, on fork
			t.Errorf("%s mapping has flags %q: a child would see it", name, flags)
		}
		Wipe(region)
		if !bytes.Equal(region, make([]byte, len(region))) {
			t.Errorf("%s mapping is not wiped", name)
		}
		if err := unix.Munmap(region); err != nil {
			t.Fatal(err)
		}
	}
}

// vmFlags returns the VmFlags line of the mapping that starts at region.
func vmFlags(t *testing.T, region []byte) string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	start := strings.TrimPrefix(fmt.Sprintf("%p-", &region[0]), "0x")
	_, rest, ok := strings.Cut(string(smaps), "\n"+start)
	if !ok {
		t.Fatalf("no mapping at %s", start)
	}
	_, line, _ := strings.Cut(rest, "VmFlags:")
	line, _, _ = strings.Cut(line, "\n")
	return line + " "
}

func TestFromBytesWipes(t *testing.T) {
	secret := []byte("correct horse")
	b, err := FromBytes(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if string(b.Bytes()) != "correct horse" || !bytes.Equal(secret, make([]byte, len(secret))) {
		t.Errorf("buffer %d bytes, original %q", b.Len(), secret)
	}
	c, err := b.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.Close()
	if string(c.Bytes()) != "correct horse" {
		t.Error("the clone went with the original")
	}
	if _, err := b.Clone(); !errors.Is(err, ErrClosed) {
		t.Errorf("clone of a closed buffer: %v", err)
	}
}

func TestReadAll(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		err   error
	}{
		{"secret", 100, nil}, {"secret", 6, nil}, {"secret", 5, ErrSize}, {"", 5, ErrEmpty}, {"x", 0, ErrSize},
	} {
		b, err := ReadAll(iotest.OneByteReader(strings.NewReader(c.in)), c.limit)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%q limit %d: %v, want %v", c.in, c.limit, err, c.err)
		}
		if err == nil && string(b.Bytes()) != c.in {
			t.Errorf("%q read as %d other bytes", c.in, b.Len())
		}
		b.Close()
	}
	if _, err := ReadAll(iotest.ErrReader(io.ErrClosedPipe), 10); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("reader's own error is lost: %v", err)
	}
}

func TestRedacted(t *testing.T) {
	b, err := FromBytes([]byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", b)
	enc, err := json.Marshal(map[string]any{"a": b})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(b), fmt.Sprintf("%v %+v %#v %s %x %q %d", b, b, b, b, b, b, b), log.String(), string(enc),
		fmt.Sprintf("%+v", struct{ B *Buffer }{b})} {
		if strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74657232") || !strings.Contains(s, redacted) {
			t.Errorf("printed as %s", s)
		}
	}
}

// TestHarden runs in a child, because a hardened process stays so.
func TestHarden(t *testing.T) {
	if os.Getenv("LOCKED_TEST_CHILD") == "1" {
		Harden(nil)
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		var limit unix.Rlimit
		limitErr := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		fmt.Printf("dumpable %d %v core %d %v umask %o\n", dumpable, err, limit.Cur, limitErr, unix.Umask(0))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHarden$")
	cmd.Env = append(os.Environ(), "LOCKED_TEST_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "dumpable 0 <nil> core 0 <nil> umask 77\n"; !strings.HasPrefix(string(out), want) {
		t.Errorf("child says %q, want %q", out, want)
	}
}
