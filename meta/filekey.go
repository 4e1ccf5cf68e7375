package meta

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// FileKeys has the data keys of a zone wrapped by its CMK itself, one by one (ZoneCMK), in the name of who the context says. The calls block, bounded by the implementation;
// nothing in this package calls them in a transaction. Errors: ErrKeyUnavailable, ErrKeyRevoked, ErrAuth.
type FileKeys interface {
	// Make draws a key for a place. The caller wipes it.
	Make(ctx context.Context, at blockcrypt.Place) (key *blockcrypt.Key, blob string, err error)
	// Open opens a blob in the place that it was made for. The caller wipes the key.
	Open(ctx context.Context, at blockcrypt.Place, blob string) (*blockcrypt.Key, error)
	// Move makes the blob for another place, without showing the key.
	Move(ctx context.Context, from, to blockcrypt.Place, blob string) (string, error)
	// TTL is how long a key that was opened may be used.
	TTL() time.Duration
}

// FileContext returns the encryption context of a data key that a CMK wraps itself. The name is the tag, in hexadecimal: names do not leave.
func FileContext(at blockcrypt.Place) map[string]string {
	return map[string]string{
		"kmsfs:volume": at.Volume.String(),
		"kmsfs:zone":   strconv.FormatUint(at.Zone, 10),
		"kmsfs:dir":    strconv.FormatUint(at.Parent, 10),
		"kmsfs:name":   fmt.Sprintf("%x", at.Name[:]),
		"kmsfs:inode":  strconv.FormatUint(at.Inode, 10),
		"kmsfs:epoch":  strconv.FormatUint(uint64(at.Epoch), 10),
	}
}

// ByCMK tells whether the CMK wraps the key itself, not the zone's key.
func (w *Wrap) ByCMK() bool { return w.Blob != "" }

// Place is what the blob of one of a's wraps is bound to. The place is the one that it was last made for: a removal of a name asks no key manager.
func (a *Attr) Place(volume VolumeID, w *Wrap) blockcrypt.Place {
	return blockcrypt.Place{Volume: volume, Zone: uint64(a.Zone), Parent: uint64(w.Parent), Name: w.Tag, Inode: uint64(a.Ino), Epoch: w.Epoch}
}

// maxKeyRounds bounds how often a transaction is begun anew because it needs another wrap: each round has one more, or somebody changed the place again.
const maxKeyRounds = 2*MaxWraps + 32

// UpdateWithKeys is Update for transactions that may make or move wraps of a CMK (AddEpoch, say): where one is not at hand, the transaction ends without effect, the
// key manager is asked with nothing locked, and fn runs again. What was made is used only in the place that it was made for, so fn decides anew whether that is still the place.
func (s *Store) UpdateWithKeys(ctx context.Context, fn func(*Tx) error) error {
	ready := &madeKeys{}
	defer ready.wipe()
	turn := s.grace.enter() // what is asked for here is not put anywhere yet
	defer s.grace.leave(turn)
	for range maxKeyRounds {
		_, err := s.Update(ctx, func(tx *Tx) error {
			tx.ready = ready.begin()
			return fn(tx)
		})
		var needed *neededKey
		if !errors.As(err, &needed) {
			if err == nil {
				ready.handOver(&s.fresh)
			}
			return err
		}
		if err := ready.get(ctx, needed); err != nil {
			return err
		}
	}
	return fmt.Errorf("file keys: the places change again and again: %w", ErrStale)
}

// neededKey: a transaction needs a wrap that has to be asked for outside of it.
type neededKey struct {
	by       FileKeys
	from, to blockcrypt.Place
	blob     string // "": a new key for to
}

func (n *neededKey) Error() string {
	return fmt.Sprintf("inode %d, epoch %d: the key manager was not asked for the file key", n.to.Inode, n.to.Epoch)
}

// movedKey names what is made of a blob.
type movedKey struct {
	from, to blockcrypt.Place
	blob     string
}

// madeKey is a new key and where it belongs.
type madeKey struct {
	at   blockcrypt.Place
	key  *blockcrypt.Key
	blob string
	used bool // by the last run of the transaction
}

// madeKeys is what the key manager made for one update.
type madeKeys struct {
	fresh []madeKey
	moved map[movedKey]string
}

func (m *madeKeys) wipe() {
	for i := range m.fresh {
		m.fresh[i].key.Wipe()
	}
}

// begin is what a run of the transaction begins with.
func (m *madeKeys) begin() *madeKeys {
	for i := range m.fresh {
		m.fresh[i].used = false
	}
	return m
}

// handOver leaves what was used to the first who opens it.
func (m *madeKeys) handOver(to *freshKeys) {
	for i := range m.fresh {
		if made := &m.fresh[i]; made.used {
			to.put(freshKey{made.at, made.blob}, made.key)
		}
	}
}

func (m *madeKeys) get(ctx context.Context, n *neededKey) error {
	if n.blob == "" {
		key, blob, err := n.by.Make(ctx, n.to)
		if err != nil {
			return fmt.Errorf("make file key of inode %d, epoch %d: %w", n.to.Inode, n.to.Epoch, err)
		}
		m.fresh = append(m.fresh, madeKey{at: n.to, key: key, blob: blob})
		return nil
	}
	blob, err := n.by.Move(ctx, n.from, n.to, n.blob)
	if err != nil {
		return fmt.Errorf("wrap file key of inode %d, epoch %d, for its new place: %w", n.to.Inode, n.to.Epoch, err)
	}
	if m.moved == nil {
		m.moved = map[movedKey]string{}
	}
	m.moved[movedKey{n.from, n.to, n.blob}] = blob
	return nil
}

// newBlob returns a key that was made for a place, a copy that the caller wipes, or the error that has it made.
func (tx *Tx) newBlob(by FileKeys, at blockcrypt.Place) (*blockcrypt.Key, string, error) {
	if tx.ready != nil {
		for i := range tx.ready.fresh {
			if made := &tx.ready.fresh[i]; made.at == at {
				own := *made.key
				made.used = true
				return &own, made.blob, nil
			}
		}
	}
	return nil, "", &neededKey{by: by, to: at}
}

// movedBlob returns the blob of one of a's wraps for another place, or the error that has it made.
func (tx *Tx) movedBlob(by FileKeys, a *Attr, w *Wrap, to place) (string, error) {
	if by == nil {
		return "", fmt.Errorf("inode %d: its key is wrapped by a CMK, and zone %d is not of that kind: %w", a.Ino, a.Zone, ErrCrossZone)
	}
	from := a.Place(tx.s.volume, w)
	at := from
	at.Parent, at.Name = uint64(to.parent), to.tag
	if tx.ready != nil {
		if blob, ok := tx.ready.moved[movedKey{from, at, w.Blob}]; ok {
			return blob, nil
		}
	}
	return "", &neededKey{by: by, from: from, to: at, blob: w.Blob}
}
