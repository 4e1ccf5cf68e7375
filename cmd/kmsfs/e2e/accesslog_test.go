package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/mount"
	"github.com/kmsfs/kmsfs/mount/mounttest"
)

// accessed is what the tests look at of an event.
type accessed struct {
	Name  string `json:"eventName"`
	Extra struct {
		Path     string `json:"path"`
		NewPath  string `json:"newPath"`
		Inode    uint64 `json:"inode"`
		Decision string `json:"decision"`
		Program  string `json:"program"`
		Written  uint64 `json:"bytesWritten"`
		UID      int    `json:"uid"`
	} `json:"additionalEventData"`
}

// accesses returns what is recorded of paths below one.
func accesses(r *rig, below string) (events []accessed) {
	r.T.Helper()
	lines := bufio.NewScanner(strings.NewReader(r.Must("audit", "query", "--keystore", r.Store, "--path", below, "--json")))
	for lines.Scan() {
		var e accessed
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			r.T.Fatalf("%q: %v", lines.Text(), err)
		}
		events = append(events, e)
	}
	return events
}

// work does each kind of thing once in a directory of the mount, by a program of its own.
func work(r *rig, dir string) {
	r.T.Helper()
	script := `mkdir "$1" && cd "$1" && echo 12345678 >a && sync a && cat a >/dev/null && chmod 600 a && mv a b && ls >/dev/null && rm b`
	if out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		r.T.Fatalf("%v: %s", err, out)
	}
}

// TestAccessIsRecorded: where nobody wrote a policy, who opened, made, renamed and removed what is in the audit log all the same, and how much was exchanged.
func TestAccessIsRecorded(t *testing.T) {
	r := &rig{mounttest.NewRig(t, mounttest.Options{})}
	r.Init()
	r.Mount()
	work(r, r.Mnt+"/seen")
	r.Umount()
	count, inodes := map[string]int{}, map[uint64]bool{}
	for _, e := range accesses(r, "/seen") {
		count[e.Name+" "+e.Extra.Path]++
		if e.Name == "Rename" && e.Extra.NewPath != "/seen/b" || e.Name != "Rename" && e.Extra.NewPath != "" {
			t.Errorf("%+v", e)
		}
		if e.Name == "Rename" || e.Name == "Remove" || e.Name == "Open" {
			inodes[e.Extra.Inode] = true
		}
		if e.Extra.Decision != "allow" || e.Extra.UID != os.Geteuid() || e.Name != "Close" && e.Extra.Program == "" {
			t.Errorf("%+v", e)
		}
	}
	for _, want := range []string{"Create /seen", "Create /seen/a", "Open /seen/a", "OpenDirectory /seen", "Rename /seen/a", "Remove /seen/b"} {
		if count[want] == 0 {
			t.Errorf("not recorded: %s; there are %v", want, count)
		}
	}
	if len(inodes) != 1 || inodes[0] {
		t.Errorf("opens, renames and the removal of one file name the inodes %v", inodes)
	}
	if n := count["SetAttributes /seen/a"]; n != 0 {
		t.Errorf("%d changes of attributes at level access", n)
	}
	r.Mount("--audit", "denied")
	work(r, r.Mnt+"/unseen")
	r.Umount()
	if events := accesses(r, "/unseen"); len(events) != 0 {
		t.Errorf("at level denied: %+v", events)
	}
	r.Mount("--audit", "full")
	work(r, r.Mnt+"/all")
	r.Umount()
	full := map[string]bool{}
	var written uint64
	for _, e := range accesses(r, "/all") {
		full[e.Name] = true
		written += e.Extra.Written
	}
	if written != 9 {
		t.Errorf("%d bytes written by what is recorded, want 9", written)
	}
	if !full["SetAttributes"] || !full["Close"] || !full["Open"] {
		t.Errorf("at level full: %v", full)
	}
	r.Refused(exitUsage, []string{"--audit", "denied"}, append(r.MountArgs(), "--audit", "some")...)
}

// TestSealedToAuditor: with an auditor's key configured no name is in the log's files; verification needs no key, the auditor finds everything with his.
func TestSealedToAuditor(t *testing.T) {
	r := &rig{mounttest.NewRig(t, mounttest.Options{})}
	r.Init()
	r.Must("keystore", "lock")
	secret, public := r.Dir+"/auditor.secret", r.Dir+"/auditor.pub"
	write(t, public, []byte(r.Must("audit", "auditor-key", "--out", secret)))
	r.Refused(exitExists, []string{"exists"}, "audit", "auditor-key", "--out", secret)
	r.Must("audit", "configure", "--auditor", public)
	r.Mount()
	work(r, r.Mnt+"/unseen")
	open := r.Dir + "/open.yaml"
	write(t, open, []byte("version: 1\n"))
	var diff mount.PolicyDiff
	decode(t, r.Must("policy", "check", "--json", r.Mnt, open), &diff)
	if p := diff.Past; p.Sealed < 3 || p.Requests != 0 || len(p.Unseen) == 0 || !strings.Contains(p.Unseen[len(p.Unseen)-1], "sealed to an auditor's key") {
		t.Errorf("policy check: %+v", p)
	}
	r.Umount()
	if events := accesses(r, "/unseen"); len(events) != 0 {
		t.Errorf("without the key: %+v", events)
	}
	out := r.Must("audit", "query", "--keystore", r.Store, "--path", "/unseen", "--auditor-key", secret)
	for _, want := range []string{" Create ", " /unseen/a to=/unseen/b ", "/unseen/b "} {
		if !strings.Contains(out, want) {
			t.Errorf("with the key there is no %s in\n%s", want, out)
		}
	}
	if out := sh(t, r.Store, "grep -rl unseen audit || true"); out != "" {
		t.Errorf("names stand in clear in %s", out)
	}
	r.Must(append([]string{"audit", "verify", "--keystore", r.Store}, r.Secret...)...)
}
