package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/awake"
)

// minWrite is the least time to send a request. A worker reads at once whatever
// it is busy with, so one that leaves its socket full that long hangs.
const minWrite = 250 * time.Millisecond

var (
	// errDied: the process ended before it answered.
	errDied = errors.New("the HSM worker died")
	// errUnsent: it had ended before it was asked. It is an errDied.
	errUnsent = fmt.Errorf("%w before it was asked", errDied)
)

// process is one life of the worker program.
type process struct {
	cmd  *exec.Cmd
	conn net.Conn
	dead chan struct{} // closed when the process is gone and all callers know

	write struct {
		sync.Mutex
		out, spare []byte    // frames to be written, and room for more while those are
		busy       bool      // somebody writes, and takes along what is put into out
		by         time.Time // deadline that is set
	}
	mu struct {
		sync.Mutex
		last    uint64
		pending map[uint64]chan answer // nil once nothing is read any more
	}
}

type answer struct {
	head   *reply
	secret []byte
}

// spawn starts the program and connects to it. The caller must be locked to its
// thread and keep it as long as the process shall live: the kernel kills the
// process when the thread that started it ends.
func spawn(cfg *Config) (*process, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the HSM worker: socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "worker")
	defer ours.Close() // FileConn has a duplicate
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("start the HSM worker: %w", err)
	}
	cmd := exec.Command(cfg.Binary, cfg.Args...)
	cmd.Env = environment(cfg.Env)
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	cmd.Stderr = &logWriter{log: cfg.Log}
	cmd.WaitDelay = time.Second // a grandchild of the module must not keep Wait waiting
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setsid:    true, // the terminal's signals are not for it
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: start the HSM worker %s: %w (it is built with cgo, beside kmsfs: `make build`)",
			hsm.ErrModule, cfg.Binary, err)
	}
	p := &process{cmd: cmd, conn: conn, dead: make(chan struct{})}
	p.mu.pending = make(map[uint64]chan answer)
	go p.read()
	return p, nil
}

// environment is the worker's: the parent's, because modules are configured by
// it, with the C library told to overwrite freed memory (the module's copies of
// plaintext and PIN) and Go told not to print memory when it crashes, and to use
// one processor for itself: its own part of a call is so short that waking another
// thread for it costs more. What runs in the module is not counted.
func environment(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	return append(env[:len(env):len(env)],
		"GLIBC_TUNABLES=glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
		"GOTRACEBACK=none", "GOMAXPROCS=1")
}

// read hands replies to who waits for them until the connection ends, then
// buries the process.
func (p *process) read() {
	for in := (frames{r: p.conn}); ; {
		head := new(reply)
		secret, err := in.next(head)
		if err != nil {
			break
		}
		p.deliver(head, secret)
	}
	p.kill() // also if it lives: it no longer speaks our language
	p.conn.Close()
	_ = p.cmd.Wait() // how it ended is of no consequence
	p.mu.Lock()
	pending := p.mu.pending
	p.mu.pending = nil
	p.mu.Unlock()
	for _, ch := range pending {
		close(ch)
	}
	close(p.dead)
}

// deliver hands a reply to who waits for it.
func (p *process) deliver(head *reply, secret []byte) {
	p.mu.Lock()
	defer p.mu.Unlock() // held while sending, so that forget finds what was sent
	ch := p.mu.pending[head.ID]
	delete(p.mu.pending, head.ID)
	if ch == nil { // nobody waits any more
		clear(secret)
		return
	}
	ch <- answer{head, secret} // has room
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// stop ends the process: politely, by closing the connection, then by force.
func (p *process) stop(grace time.Duration) {
	if u, ok := p.conn.(*net.UnixConn); ok {
		_ = u.CloseWrite()
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.dead:
	case <-t.C:
		p.kill()
		<-p.dead
	}
}

// ask sends one request and waits for its reply: errDied when the process ends
// first, errUnsent when it has ended already, or the end of ctx. The secret returned is the caller's.
func (p *process) ask(ctx context.Context, req *request, secret []byte) (*reply, []byte, error) {
	ch := make(chan answer, 1)
	p.mu.Lock()
	if p.mu.pending == nil {
		p.mu.Unlock()
		return nil, nil, errUnsent
	}
	p.mu.last++
	r := *req
	r.ID = p.mu.last
	p.mu.pending[r.ID] = ch
	p.mu.Unlock()

	if err := p.send(ctx, &r, secret); err != nil {
		p.kill() // half a frame may be out
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return nil, nil, errDied
		}
		return a.head, a.secret, a.head.err()
	case <-ctx.Done():
		p.forget(r.ID, ch)
		return nil, nil, hsm.ContextError(ctx)
	}
}

func (p *process) send(ctx context.Context, req *request, secret []byte) error {
	wait := minWrite
	if left, ok := awake.Left(ctx); ok {
		req.Timeout = max(1, left.Milliseconds())
		wait = max(wait, left)
	}
	w := &p.write
	w.Lock()
	defer w.Unlock()
	var err error
	if w.out, err = appendFrame(w.out, req, secret); err != nil || w.busy {
		return err
	}
	w.busy = true
	defer func() { w.busy = false }()
	for len(w.out) > 0 && err == nil {
		out := w.out
		w.out = w.spare[:0]
		if now := time.Now(); w.by.Sub(now) < wait {
			w.by = now.Add(2 * wait)
			_ = p.conn.SetWriteDeadline(w.by)
		}
		w.Unlock()
		_, err = p.conn.Write(out)
		clear(out)
		w.Lock()
		w.spare = out[:0]
	}
	return err
}

// forget gives up waiting and wipes a reply that came meanwhile.
func (p *process) forget(id uint64, ch chan answer) {
	p.mu.Lock()
	delete(p.mu.pending, id)
	p.mu.Unlock()
	select {
	case a := <-ch:
		clear(a.secret)
	default:
	}
}
