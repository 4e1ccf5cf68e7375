package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/bench/peer"
)

// host is a peer as loads see it.
type host struct {
	peer.Peer
	note func(format string, args ...any)
}

// Remount mounts the peer anew, with the kernel's caches emptied between.
func (h *host) Remount(ctx context.Context) (time.Duration, error) {
	if err := h.Unmount(ctx); err != nil {
		return 0, fmt.Errorf("unmount: %w", err)
	}
	if !peer.DropCaches() {
		h.note("not root: cold loads began with the lower filesystem's cache warm")
	}
	start := time.Now()
	if err := h.Mount(ctx); err != nil {
		return 0, fmt.Errorf("mount: %w", err)
	}
	return time.Since(start), nil
}

func (h *host) CPU(ctx context.Context) (time.Duration, error) {
	pids, err := h.Processes(ctx)
	if err != nil {
		return 0, err
	}
	return peer.CPU(pids)
}

func (h *host) Memory(ctx context.Context) (int64, error) {
	pids, err := h.Processes(ctx)
	if err != nil {
		return 0, err
	}
	return peer.Memory(pids[0])
}
