package meta_test

import (
	"testing"

	"github.com/kmsfs/kmsfs/meta"
)

func TestParams(t *testing.T) {
	for _, c := range []struct {
		text  string
		codec meta.Codec
		level uint8
		err   error
	}{
		{"none", meta.CodecNone, 0, nil},
		{"s2", meta.CodecS2, 1, nil},
		{"s2:3", meta.CodecS2, 3, nil},
		{"zstd", meta.CodecZstd, 3, nil},
		{"zstd:19", meta.CodecZstd, 19, nil},
		{"zstd:20", 0, 0, meta.ErrInvalid},
		{"zstd:0", 0, 0, meta.ErrInvalid},
		{"zstd:", 0, 0, meta.ErrInvalid},
		{"zstd:259", 0, 0, meta.ErrInvalid},
		{"s2:4", 0, 0, meta.ErrInvalid},
		{"none:1", 0, 0, meta.ErrInvalid},
		{"lz4", 0, 0, meta.ErrInvalid},
		{"", 0, 0, meta.ErrInvalid},
	} {
		codec, level, err := meta.ParseCompression(c.text)
		want(t, c.text, err, c.err)
		if codec != c.codec || level != c.level {
			t.Errorf("%s: %v level %d", c.text, codec, level)
		}
	}
	good := meta.Params{BlockSize: 128 << 10, Codec: meta.CodecZstd, Level: 3, Inline: 65536}
	want(t, "good", good.Check(), nil)
	if again, level, err := meta.ParseCompression(good.Compression()); err != nil || again != good.Codec || level != good.Level {
		t.Errorf("%s is read as %v level %d, %v", good.Compression(), again, level, err)
	}
	for what, change := range map[string]func(p *meta.Params){
		"block size":         func(p *meta.Params) { p.BlockSize = 96 << 10 },
		"small blocks":       func(p *meta.Params) { p.BlockSize = 32 << 10 },
		"huge blocks":        func(p *meta.Params) { p.BlockSize = 2 << 20 },
		"unknown codec":      func(p *meta.Params) { p.Codec = 3 },
		"no level":           func(p *meta.Params) { p.Level = 0 },
		"level too high":     func(p *meta.Params) { p.Level = 20 },
		"level without":      func(p *meta.Params) { p.Codec = meta.CodecNone },
		"large inline limit": func(p *meta.Params) { p.Inline = 65537 },
	} {
		p := good
		change(&p)
		want(t, what, p.Check(), meta.ErrInvalid)
	}
}

// TestParamsStay: a file keeps the parameters that it was made with; a new file has the zone's.
func TestParamsStay(t *testing.T) {
	v := newTree(t)
	before := v.file(meta.RootIno, "before")
	z, err := v.Zone(bg, meta.RootZone)
	want(t, "read", err, nil)
	z.Params = meta.Params{BlockSize: 1 << 20, Codec: meta.CodecS2, Level: 2, Inline: 512}
	_, err = v.PutZone(bg, z)
	want(t, "put", err, nil)
	if after := v.file(meta.RootIno, "after"); after.Params != z.Params {
		t.Errorf("new file has %+v", after.Params)
	}
	if a, err := v.Getattr(bg, before.Ino); err != nil || a.Params != meta.DefaultParams() {
		t.Errorf("old file has %+v, %v", a.Params, err)
	}
	own := meta.Params{BlockSize: 8192}
	a, err := v.Create(bg, meta.RootIno, []byte("own"), meta.NewNode{Mode: meta.ModeRegular | 0o600, Params: &own})
	if want(t, "create", err, nil); a.Params != own {
		t.Errorf("file with its own has %+v", a.Params)
	}
	z.BlockSize = 32 << 10
	_, err = v.PutZone(bg, z)
	want(t, "small compressed blocks", err, meta.ErrInvalid)
	v.clean()
}
