package mounttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
)

// commandLimit is how long one command may take.
const commandLimit = 5 * time.Minute

// Result is what a command did.
type Result struct {
	Args     []string
	Code     int // negative if it could not be run or was killed
	Out, Err string
}

func (r Result) String() string {
	return fmt.Sprintf("kmsfs %s: exit %d\n%s%s", strings.Join(r.Args, " "), r.Code, r.Out, r.Err)
}

// Command runs kmsfs with the rig's surroundings, whatever comes of it. It may be called from any goroutine.
func (r *Rig) Command(args ...string) Result {
	ctx, cancel := awake.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, Program(r.T), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = &out, &errOut, r.Env, r.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal: a prompt must fail, not hang
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	res := Result{Args: args, Out: out.String(), Err: errOut.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.Code = exit.ExitCode()
	case err != nil:
		res.Code, res.Err = -1, res.Err+err.Error()
	}
	return res
}

// Run runs kmsfs, which may refuse but not panic or hang.
func (r *Rig) Run(args ...string) Result {
	r.T.Helper()
	res := r.Command(args...)
	if res.Code < 0 {
		r.T.Fatal(res)
	}
	if strings.Contains(res.Err, "panic:") || strings.Contains(res.Err, "goroutine ") {
		r.T.Errorf("panic: %s", res)
	}
	return res
}

// Must runs kmsfs, which must succeed, and returns its standard output.
func (r *Rig) Must(args ...string) string {
	r.T.Helper()
	res := r.Run(args...)
	if res.Code != 0 {
		r.T.Fatal(res)
	}
	return res.Out
}

// Refused runs kmsfs, which must fail with the given code and say every one of words.
func (r *Rig) Refused(code int, words []string, args ...string) Result {
	r.T.Helper()
	res := r.Run(args...)
	if res.Code != code {
		r.T.Errorf("want exit %d: %s", code, res)
	}
	for _, w := range words {
		if !strings.Contains(res.Err, w) {
			r.T.Errorf("the message lacks %q: %s", w, res)
		}
	}
	return res
}
