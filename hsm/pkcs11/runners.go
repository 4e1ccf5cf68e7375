//go:build cgo

package pkcs11

// runners are goroutines that run calls of the module: one that has ended is used
// for the next call, because its stack has grown to what a call needs.
type runners struct {
	idle chan func()
	quit chan struct{}
}

func newRunners() *runners { return &runners{make(chan func()), make(chan struct{})} }

func (r *runners) run(fn func()) {
	select {
	case r.idle <- fn:
	default:
		go r.loop(fn)
	}
}

func (r *runners) loop(fn func()) {
	for {
		fn()
		select {
		case fn = <-r.idle:
		case <-r.quit:
			return
		}
	}
}
