package fs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestRequestOutlivesAnInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancel := make(chan struct{})
		ctx := request(cancel, &fuse.InHeader{})
		done := ctx.Done()
		close(cancel)
		time.Sleep(patience - time.Millisecond)
		synctest.Wait()
		select {
		case <-done:
			t.Error("done before patience was over")
		default:
		}
		if ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		<-done
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Error(ctx.Err())
		}
		ctx.finish()
	})
}

func TestFinishedRequestIsNotCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancel := make(chan struct{})
		ctx := request(cancel, &fuse.InHeader{})
		ctx.Done()
		ctx.finish()
		close(cancel) // the next request's interrupt
		time.Sleep(2 * patience)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		ctx.finish()
	})
}
