package meta

import (
	"bytes"
	"context"
	"fmt"
)

// Paths returns the absolute paths of all names of an inode, at most limit of them; complete says that there are no others. An inode without a name has
// none, and complete is false. Errors: ErrNotFound, ErrKeyUnavailable, ErrKeyRevoked.
func (s *Store) Paths(ctx context.Context, ino Ino, limit int) (paths []string, complete bool, err error) {
	err = s.View(ctx, func(tx *Tx) error {
		paths, complete = nil, false
		a, err := tx.readAttr(ino)
		if err != nil || a.Parent == 0 || limit < 1 {
			return err
		}
		first, err := tx.path(ino)
		if err != nil {
			return err
		}
		paths = append(paths, string(first))
		links, err := tx.links(ino, limit-1)
		if err != nil {
			return err
		}
		for _, at := range links {
			p, err := tx.linkPath(ino, at)
			if err != nil {
				return err
			}
			paths = append(paths, p)
		}
		complete = a.IsDir() || len(paths) == int(a.Nlink)
		return nil
	})
	return paths, complete, wrapIno("find paths", ino, err)
}

// links returns the places of names of an inode besides the primary one, at most limit.
func (tx *Tx) links(ino Ino, limit int) ([]place, error) {
	if limit < 1 {
		return nil, nil
	}
	var all []place
	prefix := inoKey(kindLink, ino)
	err := tx.r.Scan(tx.ctx, prefix, afterPrefix(prefix), limit, func(k, _ []byte) bool {
		if _, parent, tag, ok := parseLinkKey(k); ok {
			all = append(all, place{parent, tag})
		}
		return true
	})
	return all, err
}

// linkPath is the path of one name of an inode.
func (tx *Tx) linkPath(ino Ino, at place) (string, error) {
	dir, err := tx.path(at.parent)
	if err != nil {
		return "", err
	}
	name, err := tx.primaryName(&Attr{Ino: ino, Parent: at.parent, Tag: at.tag})
	if err != nil {
		return "", fmt.Errorf("a link of inode %d: %w", ino, err)
	}
	return string(append(append(bytes.TrimSuffix(dir, []byte("/")), '/'), name...)), nil
}
