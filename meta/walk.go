package meta

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// InodesAfter returns the numbers of at most limit inodes above after, ascending; none means the end. What it returns need not exist any more when
// the caller looks. It opens no row.
func (s *Store) InodesAfter(ctx context.Context, after Ino, limit int) ([]Ino, error) {
	var found []Ino
	err := s.kv.View(ctx, func(r kv.Reader) error {
		found = found[:0]
		return r.Scan(ctx, append(attrKey(after), 0), []byte{kindAttr + 1}, limit, func(k, _ []byte) bool {
			if ino, ok := parseIno(kindAttr, k); ok {
				found = append(found, ino)
			}
			return true
		})
	})
	if err != nil {
		return nil, fmt.Errorf("scan inodes: %w", err)
	}
	return found, nil
}
