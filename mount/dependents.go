package mount

import (
	"context"
	"slices"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/meta"
	"github.com/kmsfs/kmsfs/mount/control"
)

// Dependent is what could not be read without a key.
type Dependent struct {
	Volume    string `json:"volume"` // directory
	ID        string `json:"id"`
	All       bool   `json:"all"`                 // the volume itself does not open
	Directory string `json:"directory,omitempty"` // otherwise: from the volume's root, and all below but for directories with keys of their own
	Files     uint64 `json:"files,omitempty"`
	Unknown   bool   `json:"unknown,omitempty"` // the volume is not mounted: which directories are under the key is not known
}

// Dependents lists what no other key opens: volumes of the key store, and directories with a key of their own in those that this user has mounted. It counts files, which
// reads all their rows.
func (k *Keys) Dependents(ctx context.Context, arn string) ([]Dependent, error) {
	volumes, err := k.ListVolumes(ctx, keymgr.Caller{})
	if err != nil {
		return nil, err
	}
	r, err := openRuntime()
	if err != nil {
		return nil, err
	}
	out := []Dependent{}
	for _, v := range volumes {
		one := Dependent{Volume: v.Path, ID: v.ID.String()}
		if _, one.All = v.WrappedBy(arn); one.All {
			out = append(out, one)
			continue
		}
		directories, err := r.under(ctx, one, arn)
		if err != nil { // not mounted, or its daemon does not answer
			one.Unknown = true
			directories = []Dependent{one}
		}
		out = append(out, directories...)
	}
	return out, nil
}

// under asks the daemon of a mounted volume which of its zones have no key but one.
func (r runDir) under(ctx context.Context, v Dependent, arn string) (out []Dependent, err error) {
	var zones []ZonePolicy
	if err := control.Do(ctx, r.socket(v.ID), opPolicyList, struct{}{}, nil, &zones); err != nil {
		return nil, err
	}
	zones = slices.DeleteFunc(zones, func(z ZonePolicy) bool {
		return slices.ContainsFunc(z.Keys, func(key string) bool { return key != arn })
	})
	if len(zones) == 0 {
		return nil, nil
	}
	var c Census
	if err := control.Do(ctx, r.socket(v.ID), opCensus, censusArgs{Inode: uint64(meta.RootIno)}, nil, &c); err != nil {
		return nil, err
	}
	for _, z := range zones {
		one := v
		one.Directory = z.Directory
		if i := slices.IndexFunc(c.Zones, func(counted ZoneKeys) bool { return counted.Zone == z.Zone }); i >= 0 {
			one.Files = c.Zones[i].Files
		}
		out = append(out, one)
	}
	return out, nil
}
