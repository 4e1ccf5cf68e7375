package meta

import (
	"context"

	"github.com/kmsfs/kmsfs/meta/kv"
)

// Tx is the transaction of an Update, or the snapshot of a View. It belongs to one goroutine and must not be used after fn returned. Reads
// see the transaction's own writes. Write methods fail with ErrReadOnlyTx in a View.
//
// Besides the errors that a method names, each may return ErrAuth, ErrCorrupt and the KV store's errors.
type Tx struct {
	s   *Store
	ctx context.Context
	r   kv.Reader
	w   kv.Txn // nil in a View
	now Time

	passing bool      // reads fill no cache: the transaction walks through everything
	ready   *madeKeys // of UpdateWithKeys, else nil

	attrs map[Ino]*txAttr
	maps  map[mapKey]*txMap
	names []txDentry // dentries put or deleted, for the cache
	held  bool       // announced to the cache by flush
}

func newTx(s *Store, ctx context.Context, r kv.Reader, w kv.Txn) *Tx {
	tx := &Tx{s: s, ctx: ctx, r: r, w: w}
	if w != nil {
		tx.now = s.now()
		tx.attrs = make(map[Ino]*txAttr, 4)
	}
	return tx
}

// Rev returns the revision of the snapshot that the transaction reads.
func (tx *Tx) Rev() kv.Rev { return tx.r.Rev() }

// Context returns the context of the transaction.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Now returns the time of the transaction, the same throughout.
func (tx *Tx) Now() Time {
	if tx.now == (Time{}) { // a View, that few ask
		tx.now = tx.s.now()
	}
	return tx.now
}

func (tx *Tx) writable() error {
	if tx.w == nil {
		return ErrReadOnlyTx
	}
	return nil
}

// get reads one row; nil if absent. The value is valid until fn returns.
func (tx *Tx) get(key []byte) ([]byte, error) {
	vals, err := tx.r.Get(tx.ctx, key)
	if err != nil {
		return nil, err
	}
	return vals[0], nil
}

// flush seals and puts what the transaction buffered. It is the last step of every run of an Update.
func (tx *Tx) flush() error {
	if err := tx.flushAttrs(); err != nil {
		return err
	}
	if err := tx.flushMaps(); err != nil {
		return err
	}
	tx.hold()
	return nil
}
