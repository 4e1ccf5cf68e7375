package mount

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Census counts what is sealed under which keys. It comes from a scan of the rows that shares no code with what seals and wraps anew.
type Census struct {
	Volume string `json:"volume_id"`
	Root   string `json:"root"` // path in the volume
	Files  uint64 `json:"files"`
	Inline uint64 `json:"inline"` // files whose content lies in their row
	Blocks uint64 `json:"blocks"`
	Wraps  uint64 `json:"wraps"` // of data keys

	Oldest    *time.Time `json:"oldest_key,omitempty"` // when the oldest data key was made
	OldWraps  uint64     `json:"old_wraps"`            // data keys that are not the newest of their file
	OldBlocks uint64     `json:"old_blocks"`           // blocks, and inline contents, sealed under such
	Keyless   uint64     `json:"keyless"`              // blocks, and inline contents, under a key that there is none of: damage
	OldParams uint64     `json:"old_parameters"`       // files that are stored in another way than their zone says now
	Moving    uint64     `json:"moving"`               // files that lie in two objects: a job is in them, or was cancelled there
	Before    *Before    `json:"before,omitempty"`
	VolumeKey []WrapAge  `json:"volume_key"`
	Zones     []ZoneKeys `json:"zones"`
	// OldZoneKeys counts data keys that are wrapped under a key of their zone that is not its newest: what a deep rewrap has left to do.
	OldZoneKeys uint64         `json:"old_zone_keys"`
	Wrapped     *WrappedBefore `json:"wrapped_before,omitempty"`
	OldVersion  uint64         `json:"old_versions"` // wraps of VersionUse under a version of a CMK that is not its newest

	Versions []VersionUse `json:"versions"`            // the same by version of a CMK, in the order of first use
	AuditKey *AuditKey    `json:"audit_key,omitempty"` // absent if the key manager did not say
}

// VersionUse counts what opens by one version of a CMK.
type VersionUse struct {
	Key      string `json:"key"`
	Version  uint32 `json:"version"`
	Newest   bool   `json:"newest"`
	Wraps    uint64 `json:"wraps"` // of volume and zone keys, and of data keys where the policy says wrap: cmk
	Files    uint64 `json:"files"` // in those zones; several wraps of a zone count them once each, as do the next two
	DataKeys uint64 `json:"data_keys"`
	Blocks   uint64 `json:"blocks"` // and inline contents
}

// AuditKey is the key that seals the audit log. It lies in the token and no other key wraps it, so that a rotation does not reach it.
type AuditKey struct {
	Public    string `json:"public"`
	Algorithm string `json:"algorithm"`
	Sealed    int64  `json:"sealed"` // records of this volume's stream under its newest seal
}

// Before counts what is sealed under data keys that were made before a time.
type Before struct {
	Time   time.Time `json:"time"`
	Wraps  uint64    `json:"wraps"`
	Files  uint64    `json:"files"`
	Blocks uint64    `json:"blocks"`          // and inline contents
	First  string    `json:"first,omitempty"` // one of them
}

// WrappedBefore counts data keys that are wrapped under zone keys which were drawn before a time.
type WrappedBefore struct {
	Time  time.Time `json:"time"`
	Zones uint64    `json:"zones"` // with such keys
	Wraps uint64    `json:"wraps"`
	First string    `json:"first,omitempty"` // a file that has one
}

// WrapAge is a wrap and whether it is under the newest version of its key.
type WrapAge struct {
	WrapStatus
	Newest bool `json:"newest"`
}

// ZoneKeys says by what a zone's key is wrapped.
type ZoneKeys struct {
	Zone  uint64 `json:"zone"`
	Files uint64 `json:"files"` // of those counted

	DataKeys uint64 `json:"data_keys"`
	Blocks   uint64 `json:"blocks"` // and inline contents

	Wraps []WrapAge `json:"wraps"`
	// Version of the zone's key, and when it was drawn; Former: the one before is there still, for Below data keys.
	Version uint32    `json:"key_version"`
	Made    time.Time `json:"key_made"`
	Former  bool      `json:"former_key"`
	Below   uint64    `json:"below_key_version"`
}

// CensusConfig says what to count.
type CensusConfig struct {
	Target string    // directory of a mounted volume: all of it; a file or directory in a mount
	All    bool      // all of the volume that Target lies in
	Before time.Time // count also what is older; zero: don't
	// WrappedBefore: count also data keys under zone keys that are older; zero: don't.
	WrappedBefore time.Time
}

type censusArgs struct {
	Inode  uint64    `json:"inode"`
	Before time.Time `json:"before"`

	WrappedBefore time.Time `json:"wrapped_before"`
}

// TakeCensus has the daemon of a mounted volume count. ErrNotMounted.
func TakeCensus(ctx context.Context, cfg CensusConfig) (c Census, err error) {
	rec, st, err := findTarget(cfg.Target)
	if err != nil {
		return c, err
	}
	args := censusArgs{Inode: uint64(meta.RootIno), Before: cfg.Before, WrappedBefore: cfg.WrappedBefore}
	if st != nil && !cfg.All {
		args.Inode = st.Ino
		if typ := st.Mode & unix.S_IFMT; typ != unix.S_IFDIR && typ != unix.S_IFREG {
			return c, fmt.Errorf("%w: %s is neither a file nor a directory", ErrUsage, cfg.Target)
		}
	}
	r, err := openRuntime()
	if err != nil {
		return c, err
	}
	return c, control.Do(ctx, r.socket(rec.ID), opCensus, args, nil, &c)
}

func (d *daemon) handleCensus(ctx context.Context, call *control.Call) (any, error) {
	var args censusArgs
	if err := call.Args(&args); err != nil {
		return nil, err
	}
	if err := d.flush(); err != nil {
		return nil, err
	}
	return d.volume.census(ctx, meta.Ino(args.Inode), args.Before, args.WrappedBefore)
}

// counter is a census being taken.
type counter struct {
	v      *Volume
	root   meta.Ino
	dirs   map[meta.Ino]meta.Ino // directory to parent
	zones  map[meta.ZoneID]*zoneCount
	params map[meta.ZoneID]meta.Params
	census Census
}

// zoneCount is what was counted of one zone.
type zoneCount struct {
	dataKeys, blocks uint64 // blocks and inline contents
	row              *meta.Zone
	files            uint64
	below            uint64                // data keys under a former key
	blobs            map[string]*blobCount // data keys that its CMK has wrapped itself, by the version that did
}

// zone returns what is counted of a zone.
func (c *counter) zone(tx *meta.Tx, id meta.ZoneID) (*zoneCount, error) {
	if z := c.zones[id]; z != nil {
		return z, nil
	}
	row, err := tx.Zone(id)
	if err != nil {
		return nil, err
	}
	c.zones[id] = &zoneCount{row: row}
	return c.zones[id], nil
}

// censusBatch is how many inodes are read in one snapshot.
const censusBatch = 512

func (v *Volume) census(ctx context.Context, root meta.Ino, before, wrapped time.Time) (Census, error) {
	c := &counter{v: v, root: root, dirs: map[meta.Ino]meta.Ino{}, zones: map[meta.ZoneID]*zoneCount{}, params: map[meta.ZoneID]meta.Params{}}
	c.census.Volume, c.census.Root = v.ID.String(), fmt.Sprintf("inode %d", root)
	if path, err := v.meta.Path(ctx, root); err == nil {
		c.census.Root = string(path)
	}
	if !before.IsZero() {
		c.census.Before = &Before{Time: before}
	}
	if !wrapped.IsZero() {
		c.census.Wrapped = &WrappedBefore{Time: wrapped}
	}
	if err := v.meta.Quiesce(ctx); err != nil { // what was asked of the key manager until now has its place
		return c.census, err
	}
	err := v.meta.Zones(ctx, func(z *meta.Zone) bool {
		c.params[z.ID] = z.Params
		if root == meta.RootIno { // also of those without a file: their names are under their keys
			c.zones[z.ID] = &zoneCount{row: z}
		}
		return true
	})
	if err != nil {
		return c.census, err
	}
	err = c.each(ctx, func(_ *meta.Tx, a *meta.Attr) error {
		if a.IsDir() {
			c.dirs[a.Ino] = a.Parent
		}
		return nil
	})
	if err == nil {
		err = c.each(ctx, c.count)
	}
	if err == nil {
		err = c.wraps(ctx)
	}
	return c.census, err
}

// each calls fn for every inode, in snapshots of some.
func (c *counter) each(ctx context.Context, fn func(tx *meta.Tx, a *meta.Attr) error) error {
	for after := meta.Ino(0); ; {
		var some []*meta.Attr
		err := c.v.meta.View(ctx, func(tx *meta.Tx) error {
			some = some[:0]
			err := tx.ScanInodes(after, censusBatch, func(a *meta.Attr) bool { some = append(some, a); return true })
			if err != nil {
				return err
			}
			for _, a := range some {
				if err := fn(tx, a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(some) == 0 {
			return err
		}
		after = some[len(some)-1].Ino
	}
}

// below tells whether an inode lies below the root of the census, by its primary name.
func (c *counter) below(a *meta.Attr) bool {
	if c.root == meta.RootIno || a.Ino == c.root {
		return true
	}
	for dir, steps := a.Parent, 0; dir != 0 && steps <= len(c.dirs); dir, steps = c.dirs[dir], steps+1 {
		if dir == c.root {
			return true
		}
		if dir == meta.RootIno {
			return false
		}
	}
	return false
}

func (c *counter) count(tx *meta.Tx, a *meta.Attr) error {
	if !a.IsRegular() || !c.below(a) {
		return nil
	}
	sealed, err := tx.SealedUnder(a.Ino)
	if err != nil {
		return err
	}
	n := &c.census
	n.Files++
	z, err := c.zone(tx, a.Zone)
	if err != nil {
		return err
	}
	z.files++
	z.dataKeys += uint64(len(a.Wraps))
	c.wrapped(z, a)
	z.noteBlobs(a, sealed)
	if a.Params != c.params[a.Zone] {
		n.OldParams++
	}
	if a.Former.End > 0 {
		n.Moving++
	}
	if sealed.Inline != 0 {
		n.Inline++
		sealed.Blocks[sealed.Inline]++
	}
	n.ages(a, sealed.Blocks)
	for epoch, blocks := range sealed.Blocks {
		n.Blocks += blocks
		z.blocks += blocks
		if a.Wrap(epoch) == nil {
			n.Keyless += blocks
		}
	}
	if sealed.Inline != 0 {
		n.Blocks--
	}
	return nil
}

// ages counts how old a file's data keys are, and how many blocks are under each.
func (n *Census) ages(a *meta.Attr, blocks map[uint32]uint64) {
	old := false // anything under a key made before the time
	for _, w := range a.Wraps {
		n.Wraps++
		made := time.Unix(0, w.Made).UTC()
		if n.Oldest == nil || made.Before(*n.Oldest) {
			n.Oldest = &made
		}
		if w.Epoch != a.Epoch {
			n.OldWraps++
			n.OldBlocks += blocks[w.Epoch]
		}
		if b := n.Before; b != nil && made.Before(b.Time) {
			b.Wraps++
			b.Blocks += blocks[w.Epoch]
			old = true
		}
	}
	if !old {
		return
	}
	n.Before.Files++
	if n.Before.First == "" {
		n.Before.First = fmt.Sprintf("inode %d", a.Ino)
	}
}

// wrapped counts which keys of its zone a file's keys are wrapped under.
func (c *counter) wrapped(z *zoneCount, a *meta.Attr) {
	old := z.row.KeyMade // of the oldest key that one of them is under
	under := uint64(0)   // keys of the zone
	for _, w := range a.Wraps {
		if w.ByCMK() {
			continue
		}
		under++
		if w.KeyVersion < z.row.KeyVersion {
			z.below++
			c.census.OldZoneKeys++
			old = 0 // older than the present one, it is not known by how much
		}
	}
	b := c.census.Wrapped
	if b == nil || under == 0 || old >= b.Time.UnixNano() {
		return
	}
	b.Wraps += under
	if b.First == "" {
		b.First = fmt.Sprintf("inode %d", a.Ino)
	}
}

// wraps asks the key manager about the wraps of the volume key, and of the zones that files were counted in, and about the key of the audit log.
func (c *counter) wraps(ctx context.Context) error {
	c.census.VolumeKey = c.ages(ctx, c.v.volumeWrapStatus(ctx), &zoneCount{})
	ids := make([]meta.ZoneID, 0, len(c.zones))
	for id := range c.zones {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		n := c.zones[id]
		opens := n // by the wraps of the zone's key
		z, err := c.v.meta.Zone(ctx, id)
		if err != nil {
			return err
		}
		if z.ByCMK() {
			opens = &zoneCount{}
		}
		c.blobs(ctx, z, n)
		made := time.Unix(0, z.KeyMade).UTC()
		c.census.Zones = append(c.census.Zones, ZoneKeys{Zone: uint64(id), Files: n.files, DataKeys: n.dataKeys, Blocks: n.blocks, Wraps: c.ages(ctx, c.v.zoneWrapStatus(ctx, z), opens), Version: z.KeyVersion,
			Made: made, Former: z.Former != nil, Below: n.below})
		if b := c.census.Wrapped; b != nil && (made.Before(b.Time) || z.Former != nil) {
			b.Zones++
		}
	}
	c.auditKey(ctx)
	return nil
}

func (c *counter) auditKey(ctx context.Context) {
	key, heads, _, err := c.v.keys.AuditHeads(ctx)
	if err != nil {
		return
	}
	c.census.AuditKey = &AuditKey{Public: key.String(), Algorithm: map[seal.Algorithm]string{seal.Ed25519: "Ed25519", seal.ECDSAP256: "ECDSA-P256"}[key.Algorithm]}
	for _, h := range heads {
		if h.Stream == c.v.ID.String() {
			c.census.AuditKey.Sealed = h.Size
		}
	}
}

// ages adds which wraps are under the newest version of their key, and counts the others.
func (c *counter) ages(ctx context.Context, wraps []WrapStatus, of *zoneCount) (all []WrapAge) {
	for _, w := range wraps {
		age := c.age(ctx, w)
		if !age.Newest {
			c.census.OldVersion++
		}
		c.use(age, of)
		all = append(all, age)
	}
	return all
}
