package local

import "context"

// firstStamp is Badger's timestamp of a new store's rows.
const firstStamp = 1

// emptyTable is the table of a store without rows, and its rows.
func emptyTable(keys *freshKeys) (*freshTable, []tableRow, error) {
	u := &tableUpdate{next: &freshTable{keys: keys, nextID: 1}}
	if err := u.store(nil, 0, nil, []keyRange{{verified: keys.now()}}); err != nil {
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
		if err := ctx.Err(); err != nil {
			return err
		}
		t.verifyChunk(snap.base, spans, t.end(i), report)
	}
	return nil
}

// verifyChunk verifies the ranges of a chunk that ends at end. They are read in one go; where that fails, one by one, so that each that can be read is.
func (t *freshTable) verifyChunk(b *base, spans *ranges, end []byte, report func(error)) {
	var faults []error
	err := t.checkRun(b, spans, 0, spans.len(), end, nil, func(err error) { faults = append(faults, err) })
	if err == nil {
		for _, err := range faults {
			report(err)
		}
		return
	}
	for j := range spans.len() {
		if err := t.checkRun(b, spans, j, j+1, end, nil, report); err != nil {
			report(err)
		}
	}
}
