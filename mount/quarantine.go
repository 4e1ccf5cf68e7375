package mount

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Quarantined is something that fsck --repair could not put right: what is damaged fails until it is replaced, and is kept as it was found.
type Quarantined struct {
	Fault
	Since time.Time `json:"since"`
	Row   string    `json:"row,omitempty"`   // key of the damaged row, in hexadecimal
	Value []byte    `json:"value,omitempty"` // what lay there
}

// Quarantine calls list for everything that is quarantined, without checking the volume: by its daemon if it is mounted, otherwise by opening it here.
func Quarantine(ctx context.Context, cfg CheckConfig, list func(Quarantined) error) error {
	r, err := openRuntime()
	if err != nil {
		return err
	}
	if rec, ok := r.serving(cfg.Target); ok {
		return control.Do(ctx, r.socket(rec.ID), opQuarantine, nil, func(event json.RawMessage) error {
			var q Quarantined
			if err := json.Unmarshal(event, &q); err != nil {
				return fmt.Errorf("%w: %v", control.ErrProtocol, err)
			}
			return list(q)
		}, nil)
	}
	return offline(ctx, cfg.Target, cfg.KeyStore, cfg.Secret, func(at offlineVolume) error {
		open := at.config(ctx)
		open.checking = true
		v, err := OpenVolume(ctx, open)
		if err != nil {
			return err
		}
		err = v.quarantine(ctx, list)
		closed := v.Close(context.WithoutCancel(ctx))
		if ClassOf(closed) == ClassDamaged { // it is about what is listed
			closed = nil
		}
		return errors.Join(err, closed)
	})
}

func (v *Volume) quarantine(ctx context.Context, list func(Quarantined) error) error {
	all, err := v.meta.Kept(ctx)
	if err != nil {
		return err
	}
	for _, k := range all {
		q := Quarantined{Since: k.Found.Time().UTC(), Row: hex.EncodeToString(k.Key), Value: k.Value}
		q.Where, q.What, q.Inode, q.Offset, q.Length = k.Where, k.What, uint64(k.Ino), k.Offset, k.Length
		if k.Ino != 0 {
			if paths, _, err := v.meta.Paths(ctx, k.Ino, affectedPaths); err == nil {
				q.Paths = paths
			}
		}
		if err := list(q); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) handleQuarantine(ctx context.Context, call *control.Call) (any, error) {
	return nil, d.volume.quarantine(ctx, func(q Quarantined) error { return call.Emit(q) })
}

// quarantiner sets aside what one check finds and does not repair, and forgets what it does not find any more.
type quarantiner struct {
	v      *Volume
	kept   map[string]*meta.Kept // by name: as they were before
	found  map[string]bool
	unsure map[uint64]bool // inodes of which not all could be looked at
	failed error           // the first failure to write a row
}

func newQuarantiner(ctx context.Context, v *Volume) (*quarantiner, error) {
	all, err := v.meta.Kept(ctx)
	if err != nil {
		return nil, fmt.Errorf("quarantine: %w", err)
	}
	q := &quarantiner{v: v, kept: map[string]*meta.Kept{}, found: map[string]bool{}, unsure: map[uint64]bool{}}
	for _, k := range all {
		q.kept[k.Where] = k
	}
	return q, nil
}

// quarantineName names a fault, the same whenever it is found. Ranges of rows are told apart by what is said of them.
func quarantineName(f Fault) string {
	name := f.Where
	if f.Where == "rows" {
		name, _, _ = strings.Cut(f.Where+": "+f.What, " (")
	}
	return name[:min(len(name), meta.MaxKeptText)]
}

// take sets a fault aside and tells whether it is, now or before.
func (q *quarantiner) take(ctx context.Context, f Fault) bool {
	name := quarantineName(f)
	q.found[name] = true
	if q.kept[name] != nil {
		return true
	}
	if len(q.found) > meta.MaxKept || q.failed != nil {
		return false
	}
	k := &meta.Kept{Found: meta.TimeOf(time.Now()), Ino: meta.Ino(f.Inode), Offset: f.Offset, Length: f.Length,
		Where: name, What: f.What[:min(len(f.What), meta.MaxKeptText)]}
	if len(f.row) > 0 && len(f.row) <= meta.MaxKeptKey {
		k.Key = f.row
		if value, err := q.v.meta.RawRow(ctx, f.row); err == nil && len(value) <= meta.MaxKeptValue {
			k.Value = value
		}
	}
	if q.failed = q.v.meta.PutKept(ctx, k); q.failed != nil {
		return false
	}
	q.kept[name] = k
	return true
}

// end forgets what a whole check has not found again.
func (q *quarantiner) end(ctx context.Context) error {
	if q.failed != nil {
		return fmt.Errorf("quarantine: %w", q.failed)
	}
	for name, k := range q.kept {
		if q.found[name] || q.unsure[uint64(k.Ino)] && k.Ino != 0 {
			continue
		}
		if err := q.v.meta.DeleteKept(ctx, k.ID); err != nil {
			return fmt.Errorf("quarantine: %w", err)
		}
	}
	return nil
}
