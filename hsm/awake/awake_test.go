package awake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWithTimeout: where nothing stands still the limit is that of context.WithTimeout, and so are the errors.
func TestWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		derived, stop := context.WithCancel(ctx)
		defer stop()
		if err := ctx.Err(); err != nil {
			t.Fatalf("at the beginning: %v", err)
		}
		<-derived.Done()
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("ended after %v, want 8 s", took)
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(derived), context.DeadlineExceeded) {
			t.Errorf("ended with %v, what is derived with %v", ctx.Err(), context.Cause(derived))
		}
	})
}

func TestEndsEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := WithTimeout(t.Context(), time.Second)
		cancel()
		time.Sleep(time.Minute)
		if err := ctx.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		parent, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		ctx, cancel = WithTimeout(parent, time.Minute)
		defer cancel()
		<-ctx.Done()
		if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("parent's deadline: %v", err)
		}
		ctx, cancel = WithTimeout(t.Context(), 0)
		defer cancel()
		if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no time at all: %v", err)
		}
	})
}

// TestStoodStill: a part that ends late counts twice its length at most.
func TestStoodStill(t *testing.T) {
	c := start(8*time.Hour, func() { t.Error("the limit ended") })
	defer c.stop()
	now := c.began
	for hour, want := range map[int]time.Duration{1: 7 * time.Hour, 2: 6 * time.Hour} {
		if left := c.remaining(now.Add(time.Duration(hour) * time.Hour)); left != want {
			t.Errorf("left after %d hours: %v, want %v", hour, left, want)
		}
	}
	for i, step := range []struct {
		after time.Duration
		left  time.Duration // 0: passed
	}{{time.Hour, 7 * time.Hour}, {100 * time.Hour, 5 * time.Hour}, {90 * time.Minute, 210 * time.Minute}, {1000 * time.Hour, 90 * time.Minute}, {time.Hour, 30 * time.Minute},
		{30 * time.Minute, 0}} {
		now = now.Add(step.after)
		if passed := c.next(now); passed != (step.left == 0) || c.left != step.left {
			t.Errorf("step %d: passed %v, left %v, want %v", i, passed, c.left, step.left)
		}
	}
	if c.next(now.Add(time.Hour)) {
		t.Error("it passed twice")
	}
}

func TestLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if left, ok := Left(t.Context()); ok {
			t.Errorf("no limit: %v", left)
		}
		outer, cancel := WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		deadline, cancel := context.WithTimeout(outer, 20*time.Second)
		defer cancel()
		inner, cancel := WithTimeout(deadline, 30*time.Second)
		defer cancel()
		time.Sleep(3 * time.Second)
		if left, ok := Left(inner); !ok || left != 7*time.Second {
			t.Errorf("left: %v %v, want 7 s", left, ok)
		}
		shorter, cancel := context.WithTimeout(inner, time.Second)
		defer cancel()
		if left, ok := Left(shorter); !ok || left != time.Second {
			t.Errorf("left with a deadline: %v %v, want 1 s", left, ok)
		}
	})
}
