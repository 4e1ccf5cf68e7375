package fstest

import (
	"context"
	"errors"

	"github.com/kmsfs/kmsfs/fs/content"
	"github.com/kmsfs/kmsfs/meta"
)

// Check fails the test for every row and block that is wrong, and for objects that belong to nothing. The volume must be mounted and at rest.
func (m *Mount) Check() {
	m.t.Helper()
	ctx := context.Background()
	if err := m.Content.Checkpoint(ctx); err != nil {
		m.t.Fatalf("fstest: check: %v", err)
	}
	_, err := m.Store.Check(ctx, meta.CheckOptions{Keys: true}, func(f meta.Fault) { m.t.Errorf("fstest: check: %v", f) })
	if err != nil {
		m.t.Fatalf("fstest: check: %v", err)
	}
	inContent := func(f content.Fault) {
		m.t.Errorf("fstest: check: inode %d block %d object %q: %s: %v", f.Ino, f.Block, f.Object, f.Kind, f.Err)
	}
	for after := meta.Ino(0); ; {
		batch, err := m.Store.InodesAfter(ctx, after, 1000)
		if err != nil {
			m.t.Fatalf("fstest: check: %v", err)
		}
		if len(batch) == 0 {
			break
		}
		for _, ino := range batch {
			if err := m.Content.CheckFile(ctx, ino, inContent); err != nil && !errors.Is(err, content.ErrNotRegular) {
				m.t.Fatalf("fstest: check: %v", err)
			}
		}
		after = batch[len(batch)-1]
	}
	if err := m.Content.CheckObjects(ctx, false, inContent); err != nil {
		m.t.Fatalf("fstest: check: %v", err)
	}
}
