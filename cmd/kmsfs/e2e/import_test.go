package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// transferred is the last line that import and export print.
type transferred struct {
	Files, Copied, Verified, Repaired, Shredded, Issues int
	Issue                                               []struct{ Path, Kind, What string } `json:"-"`
}

// transferredBy reads what import or export print with --json: issues and progress, a line each, and the summary.
func transferredBy(t testing.TB, res mounttest.Result) (sum transferred) {
	t.Helper()
	done := false
	for line := range strings.Lines(res.Out) {
		var kind struct {
			Kind, Phase, Path, What string
			Seconds                 *float64
		}
		decode(t, line, &kind)
		switch {
		case kind.Kind != "":
			sum.Issue = append(sum.Issue, struct{ Path, Kind, What string }{kind.Path, kind.Kind, kind.What})
		case kind.Seconds != nil:
			done = true
			decode(t, line, &sum)
		case kind.Phase == "":
			t.Errorf("a line of another kind: %s", line)
		}
	}
	if !done {
		t.Fatalf("no summary: %s", res)
	}
	return sum
}

// plainTree makes a tree with some of everything outside of the mount, and returns its directory.
func (r *rig) plainTree() string {
	r.T.Helper()
	dir := filepath.Join(r.Dir, "plain")
	if err := os.Mkdir(dir, 0o750); err != nil {
		r.T.Fatal(err)
	}
	tree(r.T, dir, rand.New(rand.NewPCG(5, 5)))
	sh(r.T, dir, `
		ln d0/file6 d1/again; ln -s ../nowhere d2/link; mkfifo pipe; mkdir -m 700 empty
		truncate -s 200M sparse; printf end | dd of=sparse bs=1 seek=100M conv=notrunc status=none
		setfattr -n user.note -v text d0/file6; setfacl -m u:1234:r d0/file3; setfacl -d -m g:77:rwx d1
		touch -d '2001-02-03 04:05:06.789012345' d0/file0 d2/file2; touch -h -d '2002-01-01 01:02:03.4' d2/link; chmod 4711 d0/file3; chmod 555 d2`)
	r.T.Cleanup(func() { _ = os.Chmod(dir+"/d2", 0o755) })
	return dir
}

// rsyncSame compares two trees by a program of others, contents and all attributes.
func rsyncSame(t testing.TB, a, b string) {
	t.Helper()
	out, err := exec.Command("rsync", "-aHAXn", "--checksum", "--delete", "--itemize-changes", "--no-devices", a+"/", b+"/").CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%s and %s differ: %v\n%s", a, b, err, out)
	}
}

// TestImportExport: a tree goes into a volume and out again, and is what it was; what cannot be is refused before anything is done.
func TestImportExport(t *testing.T) {
	mounttest.NeedProgram(t, "rsync", "setfacl", "setfattr")
	r := newRig(t)
	r.Init()
	r.Mount()
	plain, in, out := r.plainTree(), filepath.Join(r.Mnt, "home"), filepath.Join(r.Dir, "out")
	sum := transferredBy(t, r.Run("import", "--json", plain, in))
	if sum.Files != 11 || sum.Copied != 11 || sum.Issues != 0 || sum.Verified < 13 {
		t.Errorf("import: %+v", sum)
	}
	r.Remount()
	rsyncSame(t, plain, in)
	if sum = transferredBy(t, r.Run("export", "--json", in, out)); sum.Copied != 11 || sum.Issues != 0 {
		t.Errorf("export: %+v", sum)
	}
	rsyncSame(t, plain, out)
	var st unix.Stat_t
	if err := unix.Stat(out+"/sparse", &st); err != nil || st.Blocks*512 > 1<<20 || st.Size != 200<<20 {
		t.Errorf("the sparse file: %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	if sum = transferredBy(t, r.Run("import", "--json", plain, in)); sum.Copied != 0 || sum.Issues != 0 || sum.Verified < 13 {
		t.Errorf("again: %+v", sum)
	}
	shown, err := r.typed(nil, "import", plain, in)
	if err != nil || !strings.Contains(shown, "verifying") || !strings.Contains(shown, "compared: ") {
		t.Errorf("on a terminal: %v\n%s", err, shown)
	}
	r.Refused(exitNotMounted, []string{"mount the volume first"}, "import", plain, filepath.Join(r.Dir, "elsewhere"))
	r.Refused(exitNotMounted, nil, "export", plain, out)
	r.Refused(exitUsage, []string{"a volume's own directory"}, "export", in, filepath.Join(r.Volume, "objects", "out"))
	r.Refused(exitUsage, []string{"a volume's own directory"}, "export", in, r.Volume)
	r.Refused(exitUsage, []string{"a key store"}, "export", in, filepath.Join(r.Store, "out"))
	r.Refused(exitUsage, []string{"a key store"}, "import", r.Store, in)
	r.Refused(exitUsage, []string{"lie in one another"}, "import", in, filepath.Join(in, "d1"))
	for _, left := range []string{"elsewhere", "vault/objects/out", "keys/out"} {
		if _, err := os.Stat(filepath.Join(r.Dir, left)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made: %v", left, err)
		}
	}
	r.Must("import", "--shred-source", plain, in)
	if left, err := os.ReadDir(plain); err != nil || len(left) > 0 {
		t.Errorf("left of the source: %v, %v", left, err)
	}
	rsyncSame(t, out, in)
	r.Fsck()
}

// TestImportFaults: what would stop an import is said before it begins, and a change of the source is told.
func TestImportFaults(t *testing.T) {
	r := newRig(t)
	r.Init()
	r.Mount("--key-ttl", "1s")
	plain := filepath.Join(r.Dir, "plain")
	tree(t, plain, rand.New(rand.NewPCG(5, 6)))
	in := filepath.Join(r.Mnt, "in")
	huge := filepath.Join(r.Dir, "huge")
	if err := os.MkdirAll(huge, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Must("import", plain, in)
	write(t, in+"/d0/file0", []byte("changed in the volume"))
	sum := transferredBy(t, r.Run("import", "--json", plain, in))
	if len(sum.Issue) != 1 || sum.Issue[0].Kind != "conflict" || sum.Issue[0].Path != "d0/file0" {
		t.Errorf("%+v", sum.Issue)
	}
	if string(read(t, in+"/d0/file0")) != "changed in the volume" {
		t.Error("it was replaced")
	}
	r.Refused(exitFaults, []string{"1 issues"}, "import", plain, in)
	r.Must("import", "--update", plain, in)
	var st []struct{ Keys struct{ Key string } }
	decode(t, r.Must("status", "--json", r.Mnt), &st)
	r.Must("key", "disable", st[0].Keys.Key)
	r.Eventually("the key is out of use", func() error {
		if _, err := os.Open(in + "/d0/file3"); !errors.Is(err, unix.EKEYREVOKED) {
			return fmt.Errorf("open: %v", err)
		}
		return nil
	})
	r.Refused(exitKeyRefused, []string{"key"}, "import", plain, in)
	r.Must("key", "enable", st[0].Keys.Key)
	r.Eventually("the key is back", func() error { return errors.Join(os.WriteFile(in+"/new", nil, 0o644), os.Remove(in+"/new")) })
	r.Must("import", plain, in)
	r.Umount()
	r.Mount("-o", "ro")
	r.Refused(1, []string{"read-only"}, "import", plain, in+"/d1")
}

// TestImportKilled kills imports, and the daemon behind them, again and again. What is run in the end finds it all.
func TestImportKilled(t *testing.T) {
	mounttest.NeedProgram(t, "rsync")
	r := newRig(t)
	r.Init()
	r.Mount()
	rng := rand.New(rand.NewPCG(mounttest.Seed(t), 17))
	plain, in := filepath.Join(r.Dir, "plain"), filepath.Join(r.Mnt, "in")
	total := mounttest.Times(240, 1500)
	for i := range total {
		path := filepath.Join(plain, fmt.Sprint("d", i%7), fmt.Sprint("f", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, rng.IntN(300_000))
		rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(b)
		write(t, path, b)
	}
	kills := mounttest.Times(6, 50)
	for n := range kills {
		cmd := exec.Command(mounttest.Program(t), "import", plain, in)
		cmd.Env = r.Env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		want := total * (n + 1) / (kills + 1)
		reached := func() bool { got, _ := filepath.Glob(in + "/d*/f*"); return len(got) >= want }
		for deadline := time.Now().Add(mounttest.Patience); !reached(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d files are not there", want)
			}
		}
		if n%3 == 2 {
			r.Kill(r.Daemon())
			<-ended
			r.Mount()
			continue
		}
		_ = syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
	res := r.Run("import", "--json", plain, in)
	sum := transferredBy(t, res)
	if res.Code != 0 || sum.Issues > 0 || sum.Files != total || sum.Copied >= total {
		t.Errorf("%+v\n%s", sum, res.Err)
	}
	rsyncSame(t, plain, in)
	r.Umount()
	r.Fsck()
	r.Mount()
	rsyncSame(t, plain, in)
}

// TestImportAsUser: an ordinary user imports what he may read, and is told what he could not carry over.
func TestImportAsUser(t *testing.T) {
	mounttest.NeedRoot(t)
	r := newRig(t)
	r.Init()
	r.Mount()
	const uid = 4321
	plain, in := filepath.Join(r.Dir, "plain"), filepath.Join(r.Mnt, "in")
	for _, dir := range []string{plain, in} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, uid, uid)); err != nil {
			t.Fatal(err)
		}
	}
	for name, owner := range map[string]int{"mine": uid, "roots": 0, "secret": 0} {
		write(t, filepath.Join(plain, name), []byte(name))
		if err := errors.Join(os.Chown(filepath.Join(plain, name), owner, owner), os.Chmod(filepath.Join(plain, name), os.ModeSetuid|0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(plain, "secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(mounttest.Program(t), "import", "--json", plain, in)
	cmd.Env, cmd.SysProcAttr = r.Env, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFaults {
		t.Fatalf("%v\n%s", err, out)
	}
	var issues []string
	for line := range bytes.Lines(out) {
		var i struct{ Path, Kind, What string }
		if err := json.Unmarshal(line, &i); err == nil && i.Kind != "" {
			issues = append(issues, i.Path+" "+i.Kind+" "+i.What)
		}
	}
	if len(issues) < 2 || !strings.Contains(strings.Join(issues, "\n"), "roots attribute owner 0:0") || !strings.Contains(strings.Join(issues, "\n"), "secret unreadable") {
		t.Errorf("%q", issues)
	}
	st, err := os.Stat(filepath.Join(in, "roots"))
	if err != nil || st.Mode()&os.ModeSetuid != 0 {
		t.Errorf("root's program runs as the importer: %v, %v", st.Mode(), err)
	}
	if st, err = os.Stat(filepath.Join(in, "mine")); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Errorf("his own: %v, %v", st.Mode(), err)
	}
}
