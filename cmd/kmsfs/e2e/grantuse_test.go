package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestGrantUse: where a new grant is not seen yet, its token opens files for its grantee's session, and for nobody else.
func TestGrantUse(t *testing.T) {
	v := newRevocation(t, "strict", "--grant-delay", "1h")
	other := exec.Command("/proc/self/exe")
	other.Env, other.Dir = append(os.Environ(), actorEnv+"=1"), "/"
	other.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: 1, Gid: 1}}
	elsewhere := startActor(t, "daemon in another session", other)
	refused := func(what string, a *actor) {
		t.Helper()
		if got := a.do("openro", "f", v.file); got != "EACCES" {
			t.Errorf("%s: %s", what, got)
		}
	}
	refused("without a grant", v.alice)
	made := v.Must("grant", "create", "alias/guarded", "--grantee", principal+"daemon", "--operations", "Decrypt")
	token := strings.Fields(made)[3]
	refused("a grant that is not seen yet", v.alice)

	attribute := "kmsfs.use-grant." + token
	if got := v.bob.do("Attribute", v.Mnt, attribute); !strings.HasPrefix(got, "ok") { // a token of somebody else's: it is taken, and good for nothing
		t.Errorf("bob uses it: %s", got)
	}
	refused("a token that another user uses", v.alice)
	if got := v.alice.do("Attribute", v.Mnt, attribute[:len(attribute)-5]+"AAAA="); !strings.Contains(got, "InvalidGrantTokenException") {
		t.Errorf("a forged token: %s", got)
	}
	refused("a forged token", v.alice)
	if got := v.alice.do("Attribute", v.Mnt, attribute); !strings.Contains(got, `"until"`) {
		t.Errorf("alice uses it: %s", got)
	}
	v.alice.ok("openro", "f", v.file)
	refused("the same user in another session", elsewhere)
	v.alice.ok("close", "f")
	v.Must("grant", "revoke", "alias/guarded", strings.Fields(made)[1])
	refused("a revoked grant, whatever the token", v.alice)

	// The command, as root: the token is read, not an argument.
	v.Refused(exitUsage, []string{"not a grant token"}, "grant", "use", strings.Repeat("x", 300), v.Mnt)
	res := v.Run("grant", "use", token, v.Mnt, "--json")
	if res.Code != 0 || !strings.Contains(res.Err, "standard input") || !strings.Contains(res.Out, v.Mnt) {
		t.Errorf("grant use: %s", res)
	}
	v.Refused(exitOther, []string{"grant token"}, "grant", "use", token[:len(token)-5]+"AAAA=", v.Mnt)
	if log := v.Must("audit", "query", "--json"); strings.Contains(log, token) {
		t.Error("the audit log has the token")
	}
	v.Umount()
}
