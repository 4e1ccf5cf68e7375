package local

import "context"

// firstStamp is Badger's timestamp of a new store's rows.
const firstStamp = 1

// emptyTable is the table of a store without rows, and its rows.
func emptyTable(keys *freshKeys) (*freshTable, []tableRow, error) {
	whole := &keyRange{}
	whole.verified.Store(keys.now())
	u := &tableUpdate{next: &freshTable{keys: keys, nextID: 1}}
	if err := u.store(0, nil, []*keyRange{whole}); err != nil {
		return nil, nil, err
	}
	root, err := u.next.sealRoot()
	if err != nil {
		return nil, nil, err
	}
	u.next.tag = tagOf(root)
	return u.next, append(u.written, tableRow{rootKey, root}), nil
}

// VerifyAll reads every row that lies in Badger and holds it against the last checkpoint. report is called for each range of keys that does
// not verify (kv.ErrTampered), or cannot be read. Error: the context's, kv.ErrClosed.
func (s *Store) VerifyAll(ctx context.Context, report func(error)) error {
	snap, err := s.hold()
	if err != nil {
		return err
	}
	defer s.drop(snap)
	t := snap.base.table
	for i, c := range t.chunks {
		spans, err := t.load(snap.base, c)
		if err != nil {
			report(err)
			continue
		}
		for j := range spans {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.verifySpan(snap.base, spans, j, t.end(i), noAge); err != nil {
				report(err)
			}
		}
	}
	return nil
}
