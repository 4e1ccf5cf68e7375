package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kmsfs/kmsfs/hsm/hsmtest"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// envEmpty makes this test binary the empty handler, on a socket; envDurable makes it write a durable record before each answer, to a file.
const (
	envEmpty   = "KMSFS_BENCH_EMPTY"
	envDurable = "KMSFS_BENCH_DURABLE"

	// A shorter form: how many rounds, how long each is, and which of the key manager's subjects (a regular expression).
	envRounds = "KMSFS_BENCH_ROUNDS"
	envWindow = "KMSFS_BENCH_WINDOW"
	envOnly   = "KMSFS_BENCH_ONLY"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(envEmpty); socket != "" {
		serveEmpty(socket, os.Getenv(envDurable))
	}
	os.Exit(m.Run())
}

// serveEmpty answers every request at once with an answer as long as GenerateDataKey's, or when a record is durable in a file. It ends with its standard input.
func serveEmpty(socket, file string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fatal := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	l, err := net.Listen("unix", socket)
	fatal(err)
	fatal(os.Chmod(socket, 0o600))
	answer, err := wire.Encode(&wire.GenerateDataKeyResponse{CiphertextBlob: make([]byte, 106), KeyId: strings.Repeat("k", 75), KeyMaterialId: strings.Repeat("m", 64), Plaintext: make([]byte, 32)})
	fatal(err)
	record := func() {}
	if file != "" {
		log, err := newGroupLog(file)
		fatal(err)
		record = func() { fatal(log.append()) }
	}
	fmt.Println("ready")
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		record()
		w.Header().Set("Content-Type", wire.ContentType)
		_, _ = w.Write(answer)
	}))
	os.Exit(1)
}

// empty starts the empty handler; a durable one writes a record for each call.
func empty(t *testing.T, durable bool) *subject {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "empty.sock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envEmpty+"="+socket)
	name := "empty handler"
	if durable {
		name += ", durable record"
		cmd.Env = append(cmd.Env, envDurable+"="+filepath.Join(dir, "log"))
	}
	cmd.Stderr = os.Stderr
	start(t, cmd)
	return &subject{name: name, call: generate(t, socket, "alias/x", keymgr.Context{"kmsfs:volume": "v", "kmsfs:zone": "1"})}
}

// start starts a process that says a line when it is ready, and ends with the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
}

// clients gives each worker a client of its own.
func clients(t *testing.T, socket string) []*client.Client {
	t.Helper()
	out := make([]*client.Client, workers)
	for i := range out {
		out[i] = client.New(socket, client.Options{Timeout: time.Minute})
		t.Cleanup(func() { _ = out[i].Close() })
	}
	return out
}

func generate(t *testing.T, socket, key string, c keymgr.Context) func(int) error {
	all := clients(t, socket)
	return func(w int) error {
		_, err := all[w].GenerateDataKey(context.Background(), keymgr.Caller{}, keymgr.GenerateDataKeyInput{KeyID: key, Bytes: 32, Context: c})
		return err
	}
}

// policyOf is a policy of several statements, of which the last but one lets the owner in and the last has a condition.
const policyOf = `{"Version":"2012-10-17","Statement":[
	{"Sid":"finance","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:unix/group/kmsfs-no-such-group"},"Action":["kms:Decrypt","kms:GenerateDataKey*"],"Resource":"*"},
	{"Sid":"night","Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}},
	{"Sid":"account","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
	{"Sid":"context","Effect":"Deny","Principal":"*","Action":"kms:GenerateDataKey","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:kmsfs:zone":"forbidden"}}}]}`

// build builds the commands into a directory.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, cgo := range map[string]string{"kmsfs": "0", "kmsfs-hsm-worker": "1"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, name), "github.com/kmsfs/kmsfs/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	return dir
}

// keyd starts the key daemon of a new key store, and returns its two subjects.
func keyd(t *testing.T, bin, name string, token *hsmtest.SoftHSM) []*subject {
	t.Helper()
	base := t.TempDir()
	secret, dir := filepath.Join(base, "secret"), filepath.Join(base, "ks")
	init := []string{"keystore", "init", "--keystore", dir, "--key-file", secret}
	run := []string{"keyd", "--foreground", "--keystore", dir, "--key-file", secret}
	content := strings.Repeat("0123456789abcdef", 4)
	if token != nil {
		content = token.PIN
		init = []string{"keystore", "init", "--keystore", dir, "--token", "pkcs11", "--pkcs11-module", token.Module, "--pkcs11-token", token.Label, "--pin-file", secret}
		run = []string{"keyd", "--foreground", "--keystore", dir, "--pin-file", secret}
	}
	if err := os.WriteFile(secret, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(bin, "kmsfs"), init...).CombinedOutput(); err != nil {
		t.Fatalf("kmsfs %s: %v: %s", strings.Join(init, " "), err, out)
	}
	_ = exec.Command(filepath.Join(bin, "kmsfs"), "keystore", "lock", "--keystore", dir).Run() // init may have left one
	cmd := exec.Command(filepath.Join(bin, "kmsfs"), run...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	socket := keystore.SocketPath(dir)
	c := client.New(socket, client.Options{Timeout: time.Minute})
	t.Cleanup(func() { _ = c.Close() })
	md := createKey(t, c)
	ec := keymgr.Context{"kmsfs:volume": "v", "kmsfs:zone": "1"}
	blob, err := c.GenerateDataKey(t.Context(), keymgr.Caller{}, keymgr.GenerateDataKeyInput{KeyID: md.KeyID, Bytes: 32, Context: ec})
	if err != nil {
		t.Fatal(err)
	}
	all := clients(t, socket)
	return []*subject{
		{name: name + " GenerateDataKey", call: generate(t, socket, md.KeyID, ec)},
		{name: name + " Decrypt", call: func(w int) error {
			_, err := all[w].Decrypt(context.Background(), keymgr.Caller{}, keymgr.DecryptInput{Blob: blob.Blob, Context: ec})
			return err
		}},
	}
}

// asked is what the environment asks for.
func asked[T any](t *testing.T, name string, parse func(string) (T, error), otherwise T) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	v, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// createKey waits for the daemon.
func createKey(t *testing.T, c *client.Client) keymgr.KeyMetadata {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		md, err := c.CreateKey(t.Context(), keymgr.Caller{}, keymgr.CreateKeyInput{Policy: policyOf})
		if err == nil {
			return md
		}
		if !errors.Is(err, keymgr.ErrKeyUnavailable) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestKeyManager prints the table.
func TestKeyManager(t *testing.T) {
	if os.Getenv("KMSFS_BENCH") != "1" {
		t.Skip("a measurement: make bench, or KMSFS_BENCH=1")
	}
	rounds, window := asked(t, envRounds, strconv.Atoi, 5), asked(t, envWindow, time.ParseDuration, 2*time.Second)
	bin := build(t)
	token := hsmtest.NewSoftHSM(t)
	none, durable := empty(t, false), empty(t, true)
	raw := rawEncrypt(t, token)
	all := []*subject{none, durable, raw}
	all = append(all, keyd(t, bin, "embedded", nil)...)
	all = append(all, keyd(t, bin, "SoftHSM", token)...)
	only := regexp.MustCompile(os.Getenv(envOnly))
	all = slices.DeleteFunc(all, func(s *subject) bool { return s != none && s != durable && s != raw && !only.MatchString(s.name) })
	for _, s := range all {
		s.round(t, window/4) // warm
		s.rates, s.latencies = nil, nil
	}
	for range rounds {
		for _, s := range all {
			s.round(t, window)
		}
	}
	fmt.Printf("%30s %9s %8s %8s %9s %9s %9s\n", "8 clients", "calls/s", "p50 µs", "p99 µs", "x empty", "x durable", "x C_Enc")
	for _, s := range all {
		others := []*subject{none, durable, nil}
		if strings.HasPrefix(s.name, "SoftHSM") {
			others[2] = raw
		}
		fmt.Println(s.line(others))
	}
}
