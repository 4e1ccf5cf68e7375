package conformance

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// patience bounds a wait for what takes milliseconds on a machine that has nothing else to do.
const patience = time.Minute

// destroy removes the backing key of a material from the token behind the key daemon's back.
func (r *rig) destroy(material string) {
	r.t.Helper()
	tool := exec.Command("pkcs11-tool", "--module", r.token.Module, "--token-label", r.token.Label, "--login", "--pin", r.token.PIN,
		"--delete-object", "--type", "secrkey", "--id", material[:32])
	if out, err := tool.CombinedOutput(); err != nil {
		r.t.Fatalf("pkcs11-tool: %v: %s", err, out)
	}
}

// workers are the processes of the token's worker, of which there is at most one.
func (r *rig) workers() (pids []int) {
	r.t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range procs {
		if cmdline, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(cmdline), r.worker+"\x00") {
			if pid, err := strconv.Atoi(strings.Split(p, "/")[2]); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// TestLostBackingKey: a backing key that was destroyed in the HSM takes with it what it wrapped, and nothing else.
func TestLostBackingKey(t *testing.T) {
	r := softHSM(t)
	m := r.newMaterial()
	lost, material := r.seal(m.key, "lost")
	must[kms.RotateKeyOnDemandOutput](r, &kms.RotateKeyOnDemandInput{KeyId: aws.String(m.key)})
	kept, _ := r.seal(m.key, "kept")
	r.destroy(material)
	_, err := r.call(&kms.DecryptInput{CiphertextBlob: lost})
	if got, want := r.refusal(err), (refusal{"KMSInvalidStateException", m.arn + " has lost its backing key.", http.StatusBadRequest}); got != want {
		t.Errorf("what the destroyed key wrapped: %v, want %v", got, want)
	}
	for _, blob := range [][]byte{kept, m.otherBlob} {
		if _, err := r.call(&kms.DecryptInput{CiphertextBlob: blob}); err != nil {
			t.Errorf("what another key wrapped: %v", err)
		}
	}
	r.seal(m.key, "goes on")
	if got := must[kms.DescribeKeyOutput](r, &kms.DescribeKeyInput{KeyId: aws.String(m.key)}).KeyMetadata; got.KeyState != types.KeyStateEnabled {
		t.Errorf("the key is %s", got.KeyState)
	}
}

// TestTokenAway: a token that is away is a server's fault and no other, and one that is back works without a restart.
func TestTokenAway(t *testing.T) {
	r := softHSM(t)
	m := r.newMaterial()
	r.token.Away(t)
	_, err := r.call(&kms.DecryptInput{CiphertextBlob: m.blob})
	if got := r.refusal(err); got.code != "KeyUnavailableException" || got.status != http.StatusInternalServerError {
		t.Errorf("the token is away: %v", got)
	}
	must[kms.DescribeKeyOutput](r, &kms.DescribeKeyInput{KeyId: aws.String(m.key)})
	r.token.Back(t)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // it looks again at growing intervals
		_, err := r.call(&kms.DecryptInput{CiphertextBlob: m.blob})
		if err == nil {
			break
		}
		if got := r.refusal(err); got.code != "KeyUnavailableException" || time.Now().After(end) {
			t.Fatalf("the token is back: %v", got)
		}
	}
}

// TestGarbageBlobs: a thousand blobs that no key made, many of which only the token can tell, beside good traffic: each is refused, no good one is, and the token's
// worker is the one that was there before.
func TestGarbageBlobs(t *testing.T) {
	r := softHSM(t)
	m := r.newMaterial()
	before := r.workers()
	var stop atomic.Bool
	var good sync.WaitGroup
	for range 2 {
		good.Go(func() {
			for !stop.Load() {
				out, err := r.sdk.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: m.blob})
				if err != nil || string(out.Plaintext) != "hello" {
					t.Errorf("good traffic: %v", err)
					return
				}
			}
		})
	}
	for i := range 1000 {
		bad := append([]byte{}, m.blob...)
		at := i * 8 * len(bad) / 1000
		bad[at/8] ^= 1 << (at % 8)
		code := "InvalidCiphertextException"
		if at/8 >= 1 && at/8 < 33 {
			code = "AccessDeniedException" // of a key that is not known
		}
		_, err := r.call(&kms.DecryptInput{CiphertextBlob: bad})
		if got := r.refusal(err); got.code != code || code == "InvalidCiphertextException" && got.message != "" {
			t.Errorf("bit %d flipped: %v, want %s", at, got, code)
		}
	}
	stop.Store(true)
	good.Wait()
	if after := r.workers(); fmt.Sprint(before) != fmt.Sprint(after) || len(after) != 1 {
		t.Errorf("workers %v became %v", before, after)
	}
}
