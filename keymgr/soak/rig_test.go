package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/server"
	"github.com/kmsfs/kmsfs/meta/kv"
	"github.com/kmsfs/kmsfs/meta/kv/local"
)

// patience bounds every wait, on a machine that is busy with other things or stands still for some minutes.
const patience = 5 * time.Minute

// environment of the daemon's process: this test binary.
const (
	envDir    = "KMSFS_SOAK_DIR"
	envListen = "KMSFS_SOAK_LISTEN"
	envSecret = "KMSFS_SOAK_SECRET"
	envWorker = "KMSFS_SOAK_WORKER"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		runDaemon(dir)
	}
	os.Exit(m.Run())
}

func openTables(ctx context.Context, p keystore.KVParams) (kv.Store, error) {
	opts := local.Options{Dir: p.Dir, Volume: p.ID, Key: p.Key, SegmentSize: 1 << 20, MaxJournal: 8 << 20, MinFree: -1}
	if p.Create {
		if err := local.Create(ctx, opts); err != nil {
			return nil, err
		}
	}
	return local.Open(ctx, opts)
}

// runDaemon is the daemon's process. It dies with the test, however that dies, and says on SIGUSR1 how many goroutines it has.
func runDaemon(dir string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGUSR1)
	go func() {
		for range ask {
			runtime.GC()
			fmt.Println("goroutines", runtime.NumGoroutine())
		}
	}()
	secret, err := locked.FromBytes([]byte(os.Getenv(envSecret)))
	if err == nil {
		err = server.Run(context.Background(), server.RunConfig{Dir: dir, Secret: secret, Listen: os.Getenv(envListen),
			Options: keystore.Options{OpenKV: openTables, WorkerBinary: os.Getenv(envWorker)}, Ready: func(err error) { fmt.Println("ready", err) }})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// daemon is a key daemon that can be killed and comes back at the same address.
type daemon struct {
	t       *testing.T
	dir     string
	env     []string
	address string // "" before the first start
	worker  string // path of the worker's program; "": the embedded token
	process *exec.Cmd
	out     *bufio.Reader
}

// newDaemon makes a key store and starts its daemon.
func newDaemon(t *testing.T, softHSM bool) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: filepath.Join(t.TempDir(), "ks")}
	secret := strings.Repeat("0123456789abcdef", 4)
	cfg := keystore.InitConfig{Dir: d.dir, Unlock: keystore.UnlockConfig{Kind: keystore.KeyFile}, Options: keystore.Options{OpenKV: openTables}}
	if softHSM {
		token := hsmtest.NewSoftHSM(t)
		d.worker = filepath.Join(t.TempDir(), "kmsfs-hsm-worker")
		build := exec.Command("go", "build", "-buildvcs=false", "-o", d.worker, "github.com/kmsfs/kmsfs/cmd/kmsfs-hsm-worker")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the worker: %v: %s", err, out)
		}
		secret = token.PIN
		cfg.Token = keystore.TokenConfig{Kind: hsm.KindPKCS11, Module: token.Module, Label: token.Label}
		cfg.Unlock.Kind, cfg.Options.WorkerBinary = keystore.PIN, d.worker
	}
	cfg.Secret = hsmtest.Secret(t, secret)
	if _, err := keystore.Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	d.env = append(os.Environ(), envDir+"="+d.dir, envSecret+"="+secret, envWorker+"="+d.worker)
	d.start()
	t.Cleanup(func() { d.kill() })
	return d
}

// start starts the process and waits until it answers. The port of the first start is used again.
func (d *daemon) start() {
	d.t.Helper()
	listen := d.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := d.tryStart(listen)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			d.t.Fatalf("start the key daemon: %v", err)
		}
	}
	if d.address != "" {
		return
	}
	c := d.socket()
	st, err := c.Status(d.t.Context())
	if err = errors.Join(err, c.Close()); err != nil {
		d.t.Fatal(err)
	}
	d.address = st.Listen
}

func (d *daemon) tryStart(listen string) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(d.env, envListen+"="+listen)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.process, d.out = cmd, bufio.NewReader(out)
	line, err := d.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready <nil>" {
		d.kill()
		return fmt.Errorf("it says %q (%w)", line, err)
	}
	return nil
}

// kill ends the process without a warning.
func (d *daemon) kill() {
	if d.process != nil {
		_ = d.process.Process.Kill()
		_ = d.process.Wait()
	}
}

// socket is the owner's client.
func (d *daemon) socket() *client.Client {
	return client.New(keystore.SocketPath(d.dir), client.Options{Timeout: 30 * time.Second})
}

// workerPID is the process of the token's worker, 0 if there is none at the moment.
func (d *daemon) workerPID() int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.process.Process.Pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				return pid
			}
		}
	}
	return 0
}

// holdings is what a process holds that may leak.
type holdings struct{ goroutines, files, rssKiB int }

// within tells whether h is no leak beside what was held before: one of each may be on its way, and one be kept that is made at its first use.
func (h holdings) within(before holdings) bool {
	return h.goroutines <= before.goroutines+2 && h.files <= before.files+2
}

// holds asks the daemon. Files and memory are those of its worker, too.
func (d *daemon) holds() holdings {
	d.t.Helper()
	if err := d.process.Process.Signal(syscall.SIGUSR1); err != nil {
		d.t.Fatal(err)
	}
	line, err := d.out.ReadString('\n')
	var h holdings
	if _, serr := fmt.Sscanf(line, "goroutines %d", &h.goroutines); err != nil || serr != nil {
		d.t.Fatalf("the key daemon says %q, %v", line, err)
	}
	for _, pid := range []int{d.process.Process.Pid, d.workerPID()} {
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		h.files += len(files)
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			h.rssKiB += kib
		}
	}
	return h
}
