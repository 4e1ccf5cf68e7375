package mount

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/mount/control"
)

// VersionPlan says what the destruction of one version of a CMK would cost.
type VersionPlan struct {
	Key      string          `json:"key"` // ARN
	Version  uint32          `json:"version"`
	Material string          `json:"material_id"`
	Volumes  []VersionVolume `json:"volumes"` // of the key store, all of them
}

// VersionVolume says what of a volume is under the version.
type VersionVolume struct {
	Volume  string     `json:"volume"` // directory
	ID      string     `json:"id"`
	Unknown string     `json:"unknown,omitempty"` // why it could not be asked
	Lose    bool       `json:"lose,omitempty"`    // given up, whatever it is
	Under   References `json:"under"`
}

// stands tells that the volume is in the way.
func (v VersionVolume) stands() bool { return !v.Lose && (v.Unknown != "" || !v.Under.None()) }

// PlanDestroyVersion asks every volume of the key store what it has under a version of a key, which takes as long as reading all their rows; volumes of lose (directories or ids) are given up.
// It waits until the version was replaced keymgr.VersionGrace ago. Errors: ErrUsage (no such version, the newest one, lose), ErrBusy (something is under it, or a volume cannot be asked): the plan says what.
func (k *Keys) PlanDestroyVersion(ctx context.Context, arn string, version uint32, lose []string) (p VersionPlan, err error) {
	key, err := k.DescribeKey(ctx, keymgr.Caller{}, arn)
	if err != nil {
		return p, err
	}
	p = VersionPlan{Key: key.ARN, Version: version, Volumes: []VersionVolume{}}
	switch n := uint32(len(key.Versions)); {
	case version < 1 || version > n:
		return p, fmt.Errorf("%w: %s has versions 1 to %d", ErrUsage, key.ARN, n)
	case version == n:
		return p, advise(fmt.Errorf("%w: version %d of %s is its newest, and encrypts", ErrUsage, version, key.ARN), "kmsfs key rotate, then kmsfs rewrap")
	}
	p.Material = key.Versions[version-1].MaterialID
	settled := key.Versions[version].Created.Add(keymgr.VersionGrace)
	early := time.Now().Before(settled) // then it counts only if it says no
	if err := k.askVolumes(ctx, &p, lose); err != nil || !early {
		return p, err
	}
	if err := sleepUntil(ctx, settled); err != nil {
		return p, err
	}
	return p, k.askVolumes(ctx, &p, lose)
}

// askVolumes fills in what the volumes have under the version. Errors as PlanDestroyVersion.
func (k *Keys) askVolumes(ctx context.Context, p *VersionPlan, lose []string) error {
	volumes, err := k.ListVolumes(ctx, keymgr.Caller{})
	if err != nil {
		return err
	}
	for _, name := range lose {
		if !slices.ContainsFunc(volumes, func(v keymgr.VolumeRecord) bool { return names(v, name) }) {
			return fmt.Errorf("%w: the key store knows no volume %s", ErrUsage, name)
		}
	}
	r, err := openRuntime()
	if err != nil {
		return err
	}
	p.Volumes = p.Volumes[:0]
	for _, v := range volumes {
		one := VersionVolume{Volume: v.Path, ID: v.ID.String(), Lose: slices.ContainsFunc(lose, func(name string) bool { return names(v, name) })}
		if err := control.Do(ctx, r.socket(one.ID), opReferences, referencesArgs{p.Material}, nil, &one.Under); err != nil {
			one.Unknown = err.Error()
		}
		p.Volumes = append(p.Volumes, one)
	}
	return p.judge()
}

// names tells whether a volume is called so: by its id or directory.
func names(v keymgr.VolumeRecord, name string) bool { return name == v.ID.String() || name == v.Path }

// judge is ErrBusy with all that stands against it.
func (p VersionPlan) judge() error {
	var why []string
	for _, v := range p.Volumes {
		switch {
		case !v.stands():
		case v.Unknown != "":
			why = append(why, fmt.Sprintf("volume %s (%s) cannot be asked: %s", v.Volume, v.ID, v.Unknown))
		default:
			why = append(why, fmt.Sprintf("volume %s (%s) needs it: %s", v.Volume, v.ID, v.Under))
		}
	}
	if why == nil {
		return nil
	}
	return advise(fmt.Errorf("%w: version %d of %s: %s", ErrBusy, p.Version, p.Key, strings.Join(why, "; ")),
		"mount the volumes and wrap their keys anew (kmsfs rewrap VOLUME; with wrap: cmk kmsfs reencrypt VOLUME); --lose VOLUME gives one up")
}

// String says in words what there is.
func (r References) String() string {
	var parts []string
	if r.VolumeKey {
		parts = append(parts, "its own key")
	}
	if r.Zones > 0 {
		parts = append(parts, fmt.Sprintf("keys of %d directories", r.Zones))
	}
	if r.DataKeys > 0 {
		parts = append(parts, fmt.Sprintf("%d keys of files", r.DataKeys))
	}
	if parts == nil {
		return "nothing"
	}
	text := strings.Join(parts, ", ")
	if r.First != "" {
		text += " (the first: " + r.First + ")"
	}
	return text
}

// DestroyVersion does what was planned.
func (k *Keys) DestroyVersion(ctx context.Context, p VersionPlan) error {
	in := keymgr.DestroyVersionInput{KeyID: p.Key, Version: p.Version}
	for _, v := range p.Volumes {
		id, err := blockcrypt.ParseVolumeID(v.ID)
		if err != nil {
			return err
		}
		if v.Lose {
			in.Lose = append(in.Lose, id)
		} else {
			in.Clear = append(in.Clear, id)
		}
	}
	_, err := k.Client.DestroyKeyVersion(ctx, keymgr.Caller{}, in)
	return err
}

// sleepUntil returns at a time, or with the context's error.
func sleepUntil(ctx context.Context, at time.Time) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
