package worker_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
)

// TestNoSecretsLeftInMemory looks through the writable memory of a worker for
// plaintexts that it has encrypted and decrypted, and for the PIN, which the
// worker does not need once it is logged in but for reconnecting: one copy, in
// locked memory, which /proc does not show where memfd_secret is available.
func TestNoSecretsLeftInMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the worker is not dumpable: only root may look into its memory")
	}
	s := hsmtest.NewSoftHSM(t)
	c := start(t, config(t, s))
	id := hsmtest.NewKey(t, c)
	var secrets [][]byte
	for range 20 {
		plain := make([]byte, 32)
		rand.Read(plain)
		hsmtest.Opens(t, c, id, hsmtest.Seal(t, c, id, plain, []byte("aad")), plain, []byte("aad"))
		secrets = append(secrets, plain)
	}
	found := map[int]string{}
	n := scan(t, c.PID(), func(where string, data []byte) {
		for i, s := range secrets {
			if bytes.Contains(data, s) {
				found[i] = where
			}
		}
	})
	if n < 1<<20 {
		t.Fatalf("only %d bytes could be read", n)
	}
	if len(found) > 0 {
		t.Errorf("%d of %d plaintexts are still in the worker's memory: %v", len(found), len(secrets), found)
	}
}

// scan reads the writable memory of a process.
func scan(t *testing.T, pid int, fn func(where string, data []byte)) (total int) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("no permission to read another process's memory here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for in := bufio.NewScanner(maps); in.Scan(); {
		var lo, hi int64
		var mode string
		if _, err := fmt.Sscanf(in.Text(), "%x-%x %s", &lo, &hi, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		const piece = 1 << 20
		buf := make([]byte, piece+64) // pieces overlap
		for at := lo; at < hi; at += piece {
			n, _ := mem.ReadAt(buf[:min(piece+64, hi-at)], at) // what cannot be read is left out
			fn(in.Text(), buf[:n])
			total += n
		}
	}
	return total
}
