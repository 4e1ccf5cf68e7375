package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// readmeCommands returns the commands of README.md between a line that begins with from and the next empty line, on the rig's places: /srv, /mnt and /etc lie below its directory.
func readmeCommands(r *rig, from string) string {
	_, rest, ok := strings.Cut(string(read(r.T, "../../../README.md")), "\n    "+from)
	if !ok {
		r.T.Fatalf("README.md has no line %q", from)
	}
	block, _, _ := strings.Cut(from+rest, "\n\n")
	return strings.NewReplacer("bin/kmsfs", mounttest.Program(r.T), "/srv/", r.Dir+"/", "/mnt/vault", r.Mnt, "/etc/", r.Dir+"/", "/usr/share/doc", r.Dir+"/doc").Replace(block)
}

// TestReadme does what README.md says, word by word.
func TestReadme(t *testing.T) {
	r := newRig(t)
	r.Env = append(r.Env, "KMSFS_KEYSTORE=") // the commands name it
	out := sh(t, r.Dir, "mkdir doc; echo text >doc/README; "+readmeCommands(r, "bin/kmsfs init /srv/vault --keystore /srv/keys --key-file"), r.Env...)
	words := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{"state: serving", "allow Create", "0 faults"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
}

// TestReadmeHSM does it with SoftHSM.
func TestReadmeHSM(t *testing.T) {
	mounttest.NeedWorker(t)
	mounttest.NeedProgram(t, "softhsm2-util")
	module := hsmtest.NewSoftHSM(t).Module
	r := newRig(t)
	conf := filepath.Join(r.Dir, "softhsm2.conf")
	if err := os.Mkdir(filepath.Join(r.Dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, conf, []byte("directories.tokendir = "+r.Dir+"/tokens\n"))
	r.Env = append(r.Env, "KMSFS_KEYSTORE=", "SOFTHSM2_CONF="+conf)
	script := strings.ReplaceAll(readmeCommands(r, "softhsm2-util --init-token"), "/usr/lib/softhsm/libsofthsm2.so", module)
	sh(t, r.Dir, script, r.Env...)
	if st, ok := r.Status(); !ok || !st.Keys.HSM {
		t.Errorf("after README.md's commands: %+v", st)
	}
}
