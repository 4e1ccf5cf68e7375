package mount

import (
	"context"
	"slices"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
)

// blobCount is what one version of a CMK has wrapped itself in a zone.
type blobCount struct {
	blob                string // one of them, which names the version
	keys, files, blocks uint64
}

// noteBlobs counts a file's data keys that a CMK has wrapped itself, by the version of the CMK that each blob names.
func (z *zoneCount) noteBlobs(a *meta.Attr, sealed meta.Sealed) {
	for i := range a.Wraps {
		w := &a.Wraps[i]
		if !w.ByCMK() {
			continue
		}
		material, _ := keymgr.MaterialOf([]byte(w.Blob))
		if z.blobs == nil {
			z.blobs = map[string]*blobCount{}
		}
		n := z.blobs[material]
		if n == nil {
			n = &blobCount{blob: w.Blob}
			z.blobs[material] = n
		}
		n.keys++
		n.blocks += sealed.Blocks[w.Epoch]
		if w.Epoch == a.Epoch {
			n.files++
		}
	}
}

// blobs adds what the CMK of a zone has wrapped itself to what is counted by version.
func (c *counter) blobs(ctx context.Context, z *meta.Zone, n *zoneCount) {
	materials := make([]string, 0, len(n.blobs))
	for material := range n.blobs {
		materials = append(materials, material)
	}
	slices.Sort(materials)
	for _, material := range materials {
		b := n.blobs[material]
		age := c.age(ctx, describeWrap(ctx, c.v.keys, z.Wraps[0].KeyID, []byte(b.blob)))
		if !age.Newest {
			c.census.OldVersion += b.keys
		}
		u := c.version(age)
		u.Wraps, u.Files, u.DataKeys, u.Blocks = u.Wraps+b.keys, u.Files+b.files, u.DataKeys+b.keys, u.Blocks+b.blocks
	}
}

// age adds whether a wrap is under the newest version of its key.
func (c *counter) age(ctx context.Context, w WrapStatus) WrapAge {
	age := WrapAge{WrapStatus: w}
	if key, err := c.v.keys.DescribeKey(ctx, keymgr.Caller{}, w.Key); err == nil && len(key.Versions) > 0 {
		age.Newest = w.Version == key.Versions[len(key.Versions)-1].Number
	}
	return age
}

// use adds a wrap of a volume or zone key to what is counted of its version.
func (c *counter) use(w WrapAge, of *zoneCount) {
	u := c.version(w)
	u.Wraps, u.Files, u.DataKeys, u.Blocks = u.Wraps+1, u.Files+of.files, u.DataKeys+of.dataKeys, u.Blocks+of.blocks
}

// version returns what is counted of the version of a CMK that a wrap is under.
func (c *counter) version(w WrapAge) *VersionUse {
	i := slices.IndexFunc(c.census.Versions, func(u VersionUse) bool { return u.Key == w.Key && u.Version == w.Version })
	if i < 0 {
		i = len(c.census.Versions)
		c.census.Versions = append(c.census.Versions, VersionUse{Key: w.Key, Version: w.Version, Newest: w.Newest})
	}
	return &c.census.Versions[i]
}
