package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// processes are so many programs at once, each in a directory of its own.
type processes int

// Operations of workers.
const (
	opCreate = "create" // and write 4 KiB and close
	opOpen   = "open"   // and close
	opStat   = "stat"
	opUnlink = "unlink"
)

// statPasses is how often each file is looked at: once would be over before
// it can be measured.
const statPasses = 20

// processLoads work on 8,000 files, whatever the number of processes. What
// they wrote is not synced; open and stat find caches warm.
func processLoads() (loads []Load) {
	for _, p := range []processes{1, 2, 8} {
		noun := "processes"
		if p == 1 {
			noun = "process"
		}
		for _, op := range []string{opCreate, opOpen, opStat, opUnlink} {
			l := Load{Name: fmt.Sprintf("%s 4 KiB files, %d %s", op, p, noun), Unit: "op/s", Setup: p.ensure, Run: p.run(op)}
			if op == opCreate {
				l.Setup = p.empty
			}
			loads = append(loads, l)
		}
	}
	return loads
}

// each is how many files one process has.
func (p processes) each(e *Env) int { return e.count(8000 / int(p)) }

func (p processes) dir(e *Env, k int) string { return e.path("processes", strconv.Itoa(k)) }

func (p processes) empty(_ context.Context, e *Env) error {
	if err := os.RemoveAll(e.path("processes")); err != nil {
		return err
	}
	for k := range int(p) {
		if err := os.MkdirAll(p.dir(e, k), 0o755); err != nil {
			return err
		}
	}
	return e.Host.Sync()
}

// ensure makes the files unless those of exactly as many processes are there.
func (p processes) ensure(ctx context.Context, e *Env) error {
	if p.complete(e) {
		return nil
	}
	if err := p.empty(ctx, e); err != nil {
		return err
	}
	_, err := p.run(opCreate)(ctx, e)
	return err
}

func (p processes) complete(e *Env) bool {
	_, more := os.Stat(p.dir(e, int(p)))
	_, last := os.Stat(workerFile(p.dir(e, int(p)-1), p.each(e)-1))
	return errors.Is(more, os.ErrNotExist) && last == nil
}

// run starts the processes, lets them begin together, and takes the time
// until the last is done.
func (p processes) run(op string) func(context.Context, *Env) (Result, error) {
	return func(ctx context.Context, e *Env) (Result, error) {
		crew, err := hire(ctx, int(p), func(k int) []string { return []string{op, p.dir(e, k), strconv.Itoa(p.each(e))} })
		if err != nil {
			return Result{}, err
		}
		elapsed, err := timed(crew.work, nil)
		n := p.each(e) * int(p)
		if op == opStat {
			n *= statPasses
		}
		return rate(float64(n), elapsed), err
	}
}
