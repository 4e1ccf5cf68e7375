package local

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// The checkpoint row (docs/FORMAT.md 9.2) says how far Badger is:
//
//	version u8 | flags u8 | zero u16 | generation u64 | sequence u64 | tag[16] | stamp u64 |
//	table tag[16] | heads from u64 | number of heads u16 | heads: sequence u64, tag[16] each | HMAC-SHA-256[32]
const (
	checkpointVersion   = 1
	checkpointFlagClean = 1
	checkpointFixed     = 4 + 8 + 8 + TagSize + 8 + sumSize + 8 + 2
	headSize            = 8 + TagSize
	checkpointLabel     = "checkpoint row"
	maxHeads            = 128
)

// checkpointKey is the row's key: one that callers cannot have.
var checkpointKey = []byte("\x00checkpoint")

// checkpoint is the decoded row.
type checkpoint struct {
	clean      bool
	generation uint64
	point      point
	stamp      uint64        // Badger's timestamp of the rows it speaks for
	table      [sumSize]byte // tag of the freshness table's root
	heads      headLog
}

// headLog remembers the heads that were given out for anchoring, so that an anchor older than the
// checkpoint can still be recognised after its records are gone. Those before sequence from are forgotten.
type headLog struct {
	from   uint64
	points []point // ascending
}

// add notes a head that was given out.
func (l *headLog) add(p point) {
	if n := len(l.points); n > 0 && l.points[n-1].seq >= p.seq {
		return
	}
	l.points = append(l.points, p)
	if len(l.points) > maxHeads {
		l.points = append([]point(nil), l.points[len(l.points)-maxHeads:]...)
		l.from = l.points[0].seq
	}
}

// forget drops everything up to seq: heads may have been given out that nobody noted.
func (l *headLog) forget(seq uint64) { *l = headLog{from: seq} }

// admits reports whether p may be part of the history.
func (l *headLog) admits(p point) bool {
	if p.seq < l.from {
		return true
	}
	for _, known := range l.points {
		if known.seq == p.seq {
			return known == p
		}
	}
	return false
}

// before returns a copy with the heads up to seq.
func (l *headLog) before(seq uint64) headLog {
	out := headLog{from: min(l.from, seq)}
	for _, p := range l.points {
		if p.seq <= seq {
			out.points = append(out.points, p)
		}
	}
	return out
}

// checkpointMACKey derives the key of the row's HMAC.
func checkpointMACKey(journalKey *blockcrypt.Key, volume blockcrypt.VolumeID) (*blockcrypt.Key, error) {
	return blockcrypt.DeriveKey(journalKey, checkpointLabel, volume[:])
}

func (c checkpoint) encode(key *blockcrypt.Key) []byte {
	b := make([]byte, 4, checkpointFixed+len(c.heads.points)*headSize+sha256.Size)
	b[0] = checkpointVersion
	if c.clean {
		b[1] = checkpointFlagClean
	}
	b = binary.BigEndian.AppendUint64(b, c.generation)
	b = binary.BigEndian.AppendUint64(b, c.point.seq)
	b = append(b, c.point.tag[:]...)
	b = binary.BigEndian.AppendUint64(b, c.stamp)
	b = append(b, c.table[:]...)
	b = binary.BigEndian.AppendUint64(b, c.heads.from)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.heads.points)))
	for _, p := range c.heads.points {
		b = binary.BigEndian.AppendUint64(b, p.seq)
		b = append(b, p.tag[:]...)
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(b)
	return mac.Sum(b)
}

// decodeCheckpoint reads the row. Errors: kv.ErrCorrupt, also for a wrong key.
func decodeCheckpoint(b []byte, key *blockcrypt.Key) (c checkpoint, err error) {
	if len(b) < checkpointFixed+sha256.Size {
		return c, fmt.Errorf("checkpoint row of %d bytes: %w", len(b), kv.ErrCorrupt)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if body[0] != checkpointVersion {
		return c, fmt.Errorf("checkpoint row of version %d: %w", body[0], kv.ErrCorrupt)
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil), sum) {
		return c, fmt.Errorf("checkpoint row is not authentic, or the key is another volume's: %w", kv.ErrCorrupt)
	}
	heads := body[checkpointFixed:]
	n := int(binary.BigEndian.Uint16(body[checkpointFixed-2:]))
	if body[1]&^checkpointFlagClean != 0 || body[2] != 0 || body[3] != 0 || n > maxHeads || len(heads) != n*headSize {
		return c, fmt.Errorf("checkpoint row with flags %#x and %d heads: %w", body[1], n, kv.ErrCorrupt)
	}
	c.clean = body[1]&checkpointFlagClean != 0
	c.generation = binary.BigEndian.Uint64(body[4:])
	c.point = decodePoint(body[12:])
	c.stamp = binary.BigEndian.Uint64(body[12+headSize:])
	c.table = [sumSize]byte(body[12+headSize+8:])
	c.heads.from = binary.BigEndian.Uint64(body[12+headSize+8+sumSize:])
	for ; len(heads) > 0; heads = heads[headSize:] {
		c.heads.points = append(c.heads.points, decodePoint(heads))
	}
	return c, nil
}

func decodePoint(b []byte) point {
	return point{seq: binary.BigEndian.Uint64(b), tag: [TagSize]byte(b[8:headSize])}
}

// readCheckpoint returns the row. ok is false if there is none.
func readCheckpoint(db *badger.DB, key *blockcrypt.Key) (c checkpoint, ok bool, err error) {
	b := newBase(db, latest, nil)
	defer b.discard()
	v, err := b.raw(checkpointKey)
	if err != nil || v == nil {
		return c, false, err
	}
	c, err = decodeCheckpoint(v, key)
	return c, err == nil, err
}

// writeCheckpoint puts the row at a timestamp of its own.
func writeCheckpoint(db *badger.DB, key *blockcrypt.Key, c checkpoint, stamp uint64) error {
	txn := db.NewTransactionAt(latest, true)
	defer txn.Discard()
	if err := txn.Set(checkpointKey, c.encode(key)); err != nil {
		return err
	}
	if err := txn.CommitAt(stamp, nil); err != nil {
		return errors.Join(errCheckpointRow, err)
	}
	return nil
}

var errCheckpointRow = errors.New("commit the checkpoint row")
