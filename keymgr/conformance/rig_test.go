package conformance

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/server"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

//go:embed driver.py
var driver string

// awsCommand is Debian's command line; another one may come first in PATH.
const awsCommand = "/usr/bin/aws"

// rig is a key daemon that listens, its owner's client, and the SDK and the command line of an administrator.
type rig struct {
	*client.Client
	t       *testing.T
	address string
	sdk     *kms.Client
	clock   *atomic.Int64    // how far the key daemon's clock is ahead, in nanoseconds
	token   *hsmtest.SoftHSM // nil: the embedded one
	worker  string           // path of the worker's program, of SoftHSM
	env     []string
	in      io.Writer // nil: the command line does not run yet
	out     *bufio.Reader
}

// answer is what a command printed.
type answer struct {
	Code int
	Out  string
	Err  string
}

var self = keymgr.Caller{}

func openTables(ctx context.Context, p keystore.KVParams) (kv.Store, error) {
	opts := local.Options{Dir: p.Dir, Volume: p.ID, Key: p.Key, SegmentSize: 256 << 10, MaxJournal: 1 << 20, MinFree: -1}
	if p.Create {
		if err := local.Create(ctx, opts); err != nil {
			return nil, err
		}
	}
	return local.Open(ctx, opts)
}

// needAWS skips where there is no command line, unless the tests must be complete.
func needAWS(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(awsCommand); err == nil {
		return
	}
	if os.Getenv("KMSFS_REQUIRE") == "1" {
		t.Fatalf("%s is missing: apt-get install awscli", awsCommand)
	}
	t.Skipf("%s is missing: apt-get install awscli", awsCommand)
}

// onTokens runs a test on the embedded token and on SoftHSM.
func onTokens(t *testing.T, test func(*rig)) {
	t.Run("embedded", func(t *testing.T) { test(embedded(t)) })
	t.Run("SoftHSM", func(t *testing.T) { test(softHSM(t)) })
}

func secret(t *testing.T, s string) *locked.Buffer {
	t.Helper()
	b, err := locked.FromBytes([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// embedded is a key daemon on the embedded token; change may set options.
func embedded(t *testing.T, change ...func(*server.RunConfig)) *rig {
	t.Helper()
	needAWS(t)
	return newRig(t, keystore.InitConfig{Unlock: keystore.UnlockConfig{Kind: keystore.KeyFile}, Secret: secret(t, strings.Repeat("0123456789abcdef", 4)),
		Options: keystore.Options{OpenKV: openTables}}, change...)
}

// workerDir is where the worker's program is built.
var workerDir string

// buildWorker builds the worker's program, once.
var buildWorker = sync.OnceValues(func() (string, error) {
	path := filepath.Join(workerDir, "kmsfs-hsm-worker")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/kmsfs/kmsfs/cmd/kmsfs-hsm-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the worker: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kmsfs-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	workerDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// softHSM is a key daemon on a token of SoftHSM.
func softHSM(t *testing.T) *rig {
	t.Helper()
	needAWS(t)
	token := hsmtest.NewSoftHSM(t)
	worker, err := buildWorker()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, keystore.InitConfig{Token: keystore.TokenConfig{Kind: hsm.KindPKCS11, Module: token.Module, Label: token.Label},
		Unlock: keystore.UnlockConfig{Kind: keystore.PIN}, Secret: secret(t, token.PIN), Options: keystore.Options{OpenKV: openTables, WorkerBinary: worker}})
	r.token, r.worker = token, worker
	return r
}

func newRig(t *testing.T, init keystore.InitConfig, change ...func(*server.RunConfig)) *rig {
	t.Helper()
	clock := new(atomic.Int64)
	init.Options.Now = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	init.Dir = filepath.Join(t.TempDir(), "ks")
	if _, err := keystore.Init(t.Context(), init); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan error, 1), make(chan error, 1)
	run := server.RunConfig{Dir: init.Dir, Secret: init.Secret, Listen: "127.0.0.1:0", Options: init.Options, Ready: func(err error) { ready <- err }}
	for _, c := range change {
		c(&run)
	}
	go func() { ended <- server.Run(ctx, run) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("keyd: %v", err)
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), keystore.SocketPath(init.Dir), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Client: c, t: t, address: st.Listen, clock: clock}
	admin, err := c.CreateIdentity(t.Context(), self, "admin", true)
	if err != nil {
		t.Fatal(err)
	}
	r.sdk = newSDK("http://"+r.address, admin)
	r.env = environment(t, admin)
	return r
}

// environment is that of a command line of the identity, and of nobody else.
func environment(t *testing.T, k keymgr.IdentityKey) []string {
	return []string{"AWS_ACCESS_KEY_ID=" + k.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + k.Secret, "AWS_DEFAULT_REGION=" + keymgr.Region, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=", "HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
}

func (r *rig) startDriver() {
	r.t.Helper()
	cmd := exec.Command("/usr/bin/python3", "-c", driver)
	cmd.Env = r.env
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	r.in, r.out = in, bufio.NewReader(out)
}

// send gives the driver one line and reads its answer.
func (r *rig) send(args []string) answer {
	r.t.Helper()
	if r.in == nil {
		r.startDriver()
	}
	line, err := json.Marshal(args)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(r.in, "%s\n", line); err != nil {
		r.t.Fatal(err)
	}
	raw, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("driver: %v", err)
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		r.t.Fatalf("driver says %q: %v", raw, err)
	}
	return a
}

// aws runs one command of `aws kms`.
func (r *rig) aws(args ...string) answer {
	r.t.Helper()
	return r.send(append([]string{"kms", "--endpoint-url", "http://" + r.address, "--output", "json"}, args...))
}

// ok runs a command that must succeed, and returns what it printed.
func (r *rig) ok(args ...string) map[string]any {
	r.t.Helper()
	a := r.aws(args...)
	if a.Code != 0 {
		r.t.Fatalf("aws kms %s: exit code %d, %s", strings.Join(args, " "), a.Code, a.Err)
	}
	out := map[string]any{}
	if strings.TrimSpace(a.Out) != "" {
		if err := json.Unmarshal([]byte(a.Out), &out); err != nil {
			r.t.Fatalf("aws kms %s printed %q: %v", args[0], a.Out, err)
		}
	}
	return out
}

var serviceError = regexp.MustCompile(`(?s)An error occurred \((\w+)\) when calling the \w+ operation[^:]*: ?(.*)`)

// fault runs a command and returns the service's error: "" for none.
func (r *rig) fault(args ...string) (code, message string) {
	r.t.Helper()
	a := r.aws(args...)
	if a.Code == 0 {
		return "", ""
	}
	m := serviceError.FindStringSubmatch(a.Err)
	if m == nil || a.Code != 254 {
		r.t.Fatalf("aws kms %s: exit code %d, %q", strings.Join(args, " "), a.Code, a.Err)
	}
	return m[1], strings.TrimSpace(m[2])
}
