package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// zones is a mount with zones a and b, under keys of their own, whose policies allow root and bin everything; daemon may do everything in a but Delete.
type zones struct {
	*rig
	a, b string
}

func newZones(t *testing.T) *zones {
	mounttest.NeedRoot(t)
	r := newMemoryRig(t)
	r.Init()
	r.Mount()
	z := &zones{r, filepath.Join(r.Mnt, "a"), filepath.Join(r.Mnt, "b")}
	key := filepath.Join(r.Dir, "key.json")
	write(t, key, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":["`+principal+`root","`+principal+`bin"]},"Action":"kms:*","Resource":"*"}}`))
	for _, name := range []string{"a", "b"} {
		r.Must("key", "create", "--alias", name, "--policy", key)
		z.zone(filepath.Join(r.Mnt, name), "keys: [alias/"+name+"]\nstatements:\n  - {effect: allow, users: [root, bin, daemon], actions: ['*']}\n  - {effect: deny, users: [daemon], actions: [Delete], paths: [/kept*]}\n")
	}
	return z
}

// zone makes a directory that everybody may write to, with a policy.
func (z *zones) zone(dir, policy string) {
	z.T.Helper()
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
		z.T.Fatal(err)
	}
	file := filepath.Join(z.Dir, "policy.yaml")
	write(z.T, file, []byte("version: 1\n"+policy))
	z.Must("policy", "set", dir, file)
}

// rename fails the test if a rename does.
func (z *zones) rename(from, to string) {
	z.T.Helper()
	if err := os.Rename(from, to); err != nil {
		z.T.Fatal(err)
	}
}

// settled waits until nothing is sealed under keys that files had before they were moved.
func (z *zones) settled() {
	z.T.Helper()
	z.Eventually("what was moved is sealed anew", func() error {
		var c census
		decode(z.T, z.Must("census", "--json", z.Volume), &c)
		if c.OldWraps+c.OldBlocks+c.Keyless > 0 {
			return fmt.Errorf("%+v, jobs %s", c, z.Must("jobs"))
		}
		return nil
	})
}

// TestMoveAcrossZones: files go from zone to zone while programs have them open, and are sealed anew under keys that the zone they left never wrapped.
func TestMoveAcrossZones(t *testing.T) {
	z := newZones(t)
	files := map[string][]byte{}
	for path, b := range tree(t, z.Mnt+"/tree", rand.New(rand.NewPCG(3, 9))) {
		to := filepath.Join(z.a, filepath.Base(path))
		z.rename(path, to)
		files[to] = b
	}
	same(t, "in a", files)
	big := filepath.Join(z.a, "file7")
	f, err := os.OpenFile(big, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	want, dirs := files[big], []string{z.a, z.b, z.Mnt}
	delete(files, big)
	for i := range 6 { // by somebody who writes all the while, some of it through the kernel's cache
		z.rename(big, filepath.Join(dirs[(i+1)%3], "big"))
		big = filepath.Join(dirs[(i+1)%3], "big")
		piece := bytes.Repeat([]byte{byte(i + 1)}, 70_000)
		copy(want[i*100_000:], piece)
		if _, err := f.WriteAt(piece, int64(i*100_000)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("through the open file: %v, equal: %v", err, bytes.Equal(got, want))
	}
	files[big] = want
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	same(t, "moved about", files)
	z.settled()
	same(t, "sealed anew", files)
	z.Remount()
	same(t, "after a remount", files)
	z.Fsck()
}

// TestMoveAcrossDecided: who may move what, what is EXDEV, so that mv copies, and what is recorded.
func TestMoveAcrossDecided(t *testing.T) {
	z := newZones(t)
	program := actorProgram(t, z.Dir, "program")
	bin, daemon := newActor(t, "bin", program, 2), newActor(t, "daemon", program, 1)
	for _, name := range []string{"f", "g", "kept"} {
		write(t, filepath.Join(z.a, name), []byte(name))
	}
	for _, key := range []string{"alias/a", "alias/b"} {
		z.Must("grant", "create", key, "--grantee", principal+"daemon", "--operations", "Decrypt,GenerateDataKey")
	}
	move := func(who *actor, name, want string) {
		t.Helper()
		if got := who.do("Rename", filepath.Join(z.a, name), filepath.Join(z.b, name)); got != want {
			t.Errorf("%s moves %s: %s, want %s", who.name, name, got, want)
		}
	}
	move(bin, "f", "ok")
	move(daemon, "g", "EXDEV") // has no right to take keys from one to the other, but may copy
	move(daemon, "kept", "EACCES")
	if got := daemon.do("Rename", z.a+"/kept", z.a+"/gone"); got != "ok" {
		t.Errorf("rename within the zone: %s", got)
	}
	z.settled()

	if err := os.Link(z.a+"/g", z.a+"/h"); err != nil {
		t.Fatal(err)
	}
	z.zone(z.Mnt+"/c", "block_size: 16KiB\n")
	if err := os.Mkdir(z.a+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, from, to string }{
		{"what has two names", z.a + "/g", z.b + "/g"},
		{"a file into a zone of other blocks", z.b + "/f", z.Mnt + "/c/f"},
		{"a directory", z.a + "/dir", z.b + "/dir"},
	} {
		if err := os.Rename(c.from, c.to); !errors.Is(err, syscall.EXDEV) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := os.Link(z.b+"/f", z.a+"/l"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("link: %v", err)
	}
	sh(t, z.Mnt, "mv b/f c/f && mv a/dir b/dir && mv a/h b/h && test $(cat c/f)$(cat b/h)$(cat a/g) = fgg && test ! -e b/f")

	z.rename(z.Mnt+"/c", z.b+"/c") // the directory of a zone, whose place is bound to its key
	if got := string(read(t, z.b+"/c/f")); got != "f" {
		t.Errorf("in a zone that was moved: %q", got)
	}
	z.Remount()
	if got := string(read(t, z.b+"/c/f")); got != "f" {
		t.Errorf("in a zone that was moved, after a remount: %q", got)
	}
	z.recordedMove()
	z.Umount()
	z.Fsck()
}

// recordedMove looks for the events of a move that was allowed, and of one that was not.
func (z *zones) recordedMove() {
	z.T.Helper()
	allowed, denied := false, false
	for line := range strings.Lines(z.Must("audit", "query", "--json", "--event", "Rename", "--path", "/a")) {
		var e struct {
			Parameters struct{ DestinationZone int }            `json:"requestParameters"`
			Extra      struct{ Path, Decision, NewPath string } `json:"additionalEventData"`
			Resources  []struct{ ARN string }
			Code       string `json:"errorCode"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			z.T.Fatal(err)
		}
		both := e.Parameters.DestinationZone != 0 && strings.Count(line, "arn:aws:kms") >= 2
		switch {
		case e.Extra.Path == "/a/f" && e.Extra.NewPath == "/b/f" && e.Extra.Decision == "allow" && both:
			allowed = true
		case e.Extra.Path == "/a/g" && e.Extra.Decision == "deny" && e.Code == "AccessDenied" && both:
			denied = true
		}
	}
	if !allowed || !denied {
		z.T.Errorf("the move is recorded: %v, its denial: %v\n%s", allowed, denied, z.Must("audit", "query", "--json", "--event", "Rename", "--path", "/a"))
	}
}

// TestMoveAcrossKilled kills the daemon while files go from zone to zone: each is at its old or its new place, whole.
func TestMoveAcrossKilled(t *testing.T) {
	z := newZones(t)
	const n = 24
	contents := map[string][]byte{}
	rng := rand.New(rand.NewPCG(mounttest.Seed(t), 0))
	for i := range n {
		name := fmt.Sprint("f", i)
		contents[name] = bytes.Repeat([]byte{byte(i + 1)}, 1+rng.IntN(60_000))
		write(t, filepath.Join(z.a, name), contents[name])
	}
	rounds := 3
	if mounttest.Long() {
		rounds = 50
	}
	for range rounds {
		stop, over := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(over)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprint("f", i%n)
				if os.Rename(filepath.Join(z.a, name), filepath.Join(z.b, name)) != nil {
					_ = os.Rename(filepath.Join(z.b, name), filepath.Join(z.a, name))
				}
			}
		}()
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		z.Kill(z.Daemon())
		close(stop)
		<-over
		z.Mount()
		for name, want := range contents {
			at := []string{}
			for _, dir := range []string{z.a, z.b} {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Equal(b, want) {
					at = append(at, dir)
				} else if !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s in %s: %v, %d bytes of %d", name, dir, err, len(b), len(want))
				}
			}
			if len(at) != 1 {
				t.Errorf("%s is at %v", name, at)
			}
		}
		z.Fsck()
	}
	z.settled()
	z.Umount()
	z.Fsck()
}
