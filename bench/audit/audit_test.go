package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

func TestMain(m *testing.M) { os.Exit(mounttest.Main(m)) }

const (
	rounds = 21
	opens  = 4000 // a round
)

// policy has 20 statements of which the last one allows what is measured: on users, groups, paths, programs and time.
func policy() []byte {
	var b strings.Builder
	b.WriteString("version: 1\nstatements:\n")
	add := func(format string, args ...any) { fmt.Fprintf(&b, "  - {"+format+"}\n", args...) }
	for i := range 14 {
		add("effect: allow, groups: [daemon], actions: [List, Read], paths: ['/project %d/*']", i)
	}
	add("effect: deny, users: [games], actions: [Read, Write, Delete]")
	add("effect: deny, groups: [news], actions: [Delete], paths: ['/drafts/*']")
	add("effect: allow, users: [backup], actions: [List, Read], programs: [/usr/bin/tar]")
	add("effect: allow, groups: [mail], actions: [List, Read], not_after: 2099-12-31")
	add("effect: allow, users: [root], actions: [Admin]")
	add("effect: allow, groups: [root], actions: [List, Read, Write, Create, Delete, Rename, SetAttr]")
	return []byte(b.String())
}

// TestCost prints opens a second and their ratios. It fails where something does not work, never because of a figure.
func TestCost(t *testing.T) {
	if os.Getenv("KMSFS_BENCH") != "1" {
		t.Skip("a measurement: only with KMSFS_BENCH=1")
	}
	mounttest.NeedRoot(t)
	plain, audited := mounttest.NewRig(t, mounttest.Options{}), mounttest.NewRig(t, mounttest.Options{})
	for _, r := range []*mounttest.Rig{plain, audited} {
		r.Init()
	}
	plain.Mount("--audit", "denied")
	audited.Mount()
	guarded := filepath.Join(audited.Mnt, "guarded")
	source := filepath.Join(audited.Dir, "policy.yaml")
	for _, err := range []error{os.Mkdir(guarded, 0o755), os.WriteFile(source, policy(), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	audited.Must("policy", "set", guarded, source)
	names := []string{"neither", "audit", "audit and policy"}
	var all [3][]float64
	files := []string{plain.Mnt + "/file", audited.Mnt + "/file", guarded + "/file"}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range rounds {
		for i, file := range files {
			all[i] = append(all[i], rate(t, file))
		}
	}
	for i, name := range names {
		var ratios []float64
		for k := range all[i] {
			ratios = append(ratios, all[i][k]/all[0][k])
		}
		t.Logf("%-17s %7.0f opens/s, %.2f of neither (medians of %d rounds)", name, median(all[i]), median(ratios), rounds)
	}
}

// rate is how often a second a file is opened and closed.
func rate(t *testing.T, file string) float64 {
	t.Helper()
	start := time.Now()
	for range opens {
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
	}
	return opens / time.Since(start).Seconds()
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
