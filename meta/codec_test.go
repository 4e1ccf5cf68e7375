package meta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

// The samples below are fixed; their encodings are the golden bytes of docs/FORMAT.md, section 7.

func sampleFile() *Attr {
	a := &Attr{Ino: 42, Mode: ModeRegular | 0o640, UID: 1000, GID: 100, Nlink: 2, Size: 5000, Allocated: 8192,
		Atime: Time{1, 2}, Mtime: Time{-3, 999999999}, Ctime: Time{5, 6}, Btime: Time{7, 8}, Zone: 1, Parent: 1,
		Tag: NameTag{0xaa, 15: 0xbb}, Layout: LayoutSlots, Params: Params{BlockSize: 4096, Inline: 2048}, Serial: 3, Epoch: 2, XattrList: 7, Flags: FlagXattr, Version: 9,
		Wraps: []Wrap{{Epoch: 1, Made: 3, Uses: 10, KeyVersion: 5}, {Epoch: 2, Made: 4, Uses: 20, KeyVersion: 6}}}
	a.Wraps[0].Wrapped[0], a.Wraps[1].Commitment[31] = 0x11, 0x22
	return a
}

// movingFile is sampleFile while it moves from blocks of 128 KiB.
func movingFile() *Attr {
	a := sampleFile()
	a.Upper, a.Former = true, Former{End: 131072, Serial: 2, BlockSize: 131072}
	return a
}

func sampleDir() *Attr {
	return &Attr{Ino: RootIno, Mode: ModeDir | 0o755, Nlink: 2, Zone: 1, Parent: RootIno, Version: 1}
}

func sampleRow() *MapRow {
	m := new(MapRow)
	m[0] = Entry{Present: true, CRC: 0x01020304, Epoch: 1, PlainLen: 4096, StoredLen: 4096, Nonce: [12]byte{1, 11: 2}, Tag: [16]byte{3, 15: 4}}
	m[5] = Entry{Present: true, CRC: 5, Epoch: 2, PlainLen: 904, StoredLen: 904, Tag: [16]byte{6}}
	m[31] = Entry{Present: true, CRC: 7, Epoch: 1, PlainLen: 4096, StoredLen: 4096}
	return m
}

func sampleZone() *Zone {
	z := &Zone{ID: 1, Dir: 1, Params: Params{BlockSize: 131072, Codec: CodecZstd, Level: 3, Inline: 2048}, Flags: ZoneLocked, KeyTTL: 900, PolicyVersion: 2, PolicyHash: [32]byte{0x99},
		KeyVersion: 3, KeyMade: 7, Former: &FormerKey{Wraps: []ZoneWrap{{KeyID: "k0", Blob: []byte{5}}}, Commitment: [32]byte{0xaa}},
		Wraps: []ZoneWrap{{KeyID: "k1", Blob: []byte{1, 2, 3}}, {KeyID: "k2", Blob: []byte{4}}}}
	z.Names[0], z.Commitment[0] = 0x77, 0x88
	return z
}

func zeros(n int) string { return strings.Repeat("00", n) }

// encodings is every encoder of the package with a sample, and its decoder, which encodes again.
var encodings = []struct {
	name   string
	golden string // hexadecimal; spaces are ignored
	encode func() []byte
	again  func(b []byte) ([]byte, error)
}{
	{"file", `01 0001 000081a0 000003e8 00000064 00000002 0000000000001388 0000000000002000
		0000000000000001 00000002 fffffffffffffffd 3b9ac9ff 0000000000000005 00000006 0000000000000007 00000008
		00000000 0000000000000001 0000000000000001 aa` + zeros(14) + `bb 02 0c 00 00 00000800 0000000000000003 00000002 00000007 0000000000000009
		02 00000001 0000000000000003 000000000000000a 00000005 11` + zeros(71) + zeros(32) + `00000002 0000000000000004 0000000000000014 00000006` + zeros(72) + zeros(31) + `22`,
		func() []byte { return encodeAttr(sampleFile()) }, againAttr(42)},
	{"moving file", `01 0001 000081a0 000003e8 00000064 00000002 0000000000001388 0000000000002000
		0000000000000001 00000002 fffffffffffffffd 3b9ac9ff 0000000000000005 00000006 0000000000000007 00000008
		00000000 0000000000000001 0000000000000001 aa` + zeros(14) + `bb 32 0c 00 00 00000800 0000000000000003 00000002 00000007 0000000000000009
		02 00000001 0000000000000003 000000000000000a 00000005 11` + zeros(71) + zeros(32) + `00000002 0000000000000004 0000000000000014 00000006` + zeros(72) + zeros(31) + `22
		0000000000020000 0000000000000002 11`,
		func() []byte { return encodeAttr(movingFile()) }, againAttr(42)},
	{"dir", `01 0000 000041ed 00000000 00000000 00000002` + zeros(16) + zeros(48) + `00000000 0000000000000001 0000000000000001` + zeros(16) +
		`00 00 00 00 00000000` + zeros(8) + zeros(4) + zeros(4) + `0000000000000001 00`,
		func() []byte { return encodeAttr(sampleDir()) }, againAttr(RootIno)},
	{"map", `01 00000001 00001000 80000021 00000020
		01020304 01` + zeros(10) + `02 03` + zeros(14) + `04
		00000005` + zeros(12) + `06` + zeros(15) + `05 00000388 00000002
		00000007` + zeros(28),
		func() []byte { return EncodeMapRow(nil, sampleRow()) },
		func(b []byte) ([]byte, error) {
			var m MapRow
			if err := DecodeMapRow(b, &m); err != nil {
				return nil, err
			}
			return EncodeMapRow(nil, &m), nil
		}},
	{"dentry", `01 08 000000000000002a 68656c6c6f`,
		func() []byte { return encodeDentry(&dentry{ino: 42, typ: ModeRegular, name: []byte("hello")}) },
		func(b []byte) ([]byte, error) {
			d, err := decodeDentry(b)
			return encodeDentry(&d), err
		}},
	{"symlink", `01 2f746d70`, func() []byte { return encodeTarget([]byte("/tmp")) },
		func(b []byte) ([]byte, error) {
			t, err := decodeTarget(b)
			return encodeTarget(t), err
		}},
	{"xattr", `01 06 757365722e61 76616c`, func() []byte { return encodeXattr("user.a", []byte("val")) },
		func(b []byte) ([]byte, error) {
			n, v, err := decodeXattr(b)
			return encodeXattr(n, v), err
		}},
	{"inline", `01 00 00000003` + zeros(28) + `ff`, func() []byte { return encodeInline(&Inline{Epoch: 3, Sealed: append(make([]byte, 28), 0xff)}) },
		func(b []byte) ([]byte, error) {
			in, err := decodeInline(b)
			if err != nil {
				return nil, err
			}
			return encodeInline(in), nil
		}},
	{"garbage", `01 0000000000000064`, func() []byte { return encodeGarbage(&Garbage{Count: 100}) },
		func(b []byte) ([]byte, error) {
			g := Garbage{Ino: 1, Serial: 1, Op: GarbagePunch}
			err := decodeGarbage(b, &g)
			return encodeGarbage(&g), err
		}},
	{"kept", `01 0000000000000007 00000008 0000000000000009 0000000000001000 0000000000000800 0001 41 0002 4243 0001 44 ff`, func() []byte { return encodeKept(sampleKept()) },
		func(b []byte) ([]byte, error) {
			k, err := decodeKept(1, b)
			if err != nil {
				return nil, err
			}
			return encodeKept(k), nil
		}},
	{"mark", `01`, encodeMark, func(b []byte) ([]byte, error) { return encodeMark(), decodeMark(b, "mark") }},
	{"counter", `01 0000000000000402`, func() []byte { return encodeCounter(1026) },
		func(b []byte) ([]byte, error) {
			n, err := decodeCounter(b)
			return encodeCounter(n), err
		}},
	{"zone", `01 0000000000000001 0000000000000001 11 02 03 00000800 77` + zeros(71) + `88` + zeros(31) +
		`01 00000384 0000000000000002 99` + zeros(31) + `00000003 0000000000000007 02 0002 6b31 0003 010203 0002 6b32 0001 04 01 0002 6b30 0001 05 aa` + zeros(31),
		func() []byte { return encodeZone(sampleZone()) },
		func(b []byte) ([]byte, error) {
			z, err := decodeZone(b)
			if err != nil {
				return nil, err
			}
			return encodeZone(z), nil
		}},
}

func againAttr(ino Ino) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		a, err := decodeAttr(ino, b)
		if err != nil {
			return nil, err
		}
		return encodeAttr(a), nil
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			want := unhex(t, e.golden)
			if got := e.encode(); !bytes.Equal(got, want) {
				t.Fatalf("encoded\n%x, golden\n%x", got, want)
			}
			got, err := e.again(want)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("decoded and encoded again: %x, %v", got, err)
			}
		})
	}
}

// TestDecodeRefuses cuts, extends and changes every golden value: the decoder refuses, or what it read encodes to the same bytes.
func TestDecodeRefuses(t *testing.T) {
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			golden := unhex(t, e.golden)
			for n := range golden {
				canonical(t, e.again, golden[:n])
			}
			canonical(t, e.again, append(bytes.Clone(golden), 0))
			for i := range golden {
				for _, x := range []byte{1, 0x80, 0xff} {
					b := bytes.Clone(golden)
					b[i] ^= x
					canonical(t, e.again, b)
				}
			}
			bad := bytes.Clone(golden)
			bad[0] = 2
			if _, err := e.again(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("version 2: %v", err)
			}
		})
	}
}

// canonical fails unless b is refused with ErrCorrupt, or decodes to what encodes to b.
func canonical(t testing.TB, again func([]byte) ([]byte, error), b []byte) {
	t.Helper()
	got, err := again(bytes.Clone(b))
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%x: %v, want ErrCorrupt", b, err)
		}
		return
	}
	if !bytes.Equal(got, b) {
		t.Fatalf("%x decodes to what encodes to %x", b, got)
	}
}

func TestAttrRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(a *Attr)
	}{
		{"unknown flag", func(a *Attr) { a.Flags |= 1 << 15 }},
		{"no type", func(a *Attr) { a.Mode = 0o644 }},
		{"mode bits", func(a *Attr) { a.Mode |= 1 << 20 }},
		{"nanoseconds", func(a *Attr) { a.Ctime.Nsec = 1e9 }},
		{"size", func(a *Attr) { a.Size = 1 << 63 }},
		{"zone", func(a *Attr) { a.Zone = 0 }},
		{"no links", func(a *Attr) { a.Nlink = 0 }},
		{"too many links", func(a *Attr) { a.Nlink = MaxLinks + 1 }},
		{"orphan with links", func(a *Attr) { a.Flags |= FlagOrphan }},
		{"linkable, no orphan", func(a *Attr) { a.Flags |= FlagLinkable }},
		{"orphan with a place", func(a *Attr) { a.Flags |= FlagOrphan; a.Nlink = 0 }},
		{"own parent", func(a *Attr) { a.Parent = a.Ino }},
		{"no parent", func(a *Attr) { a.Parent = 0 }},
		{"xattr list without flag", func(a *Attr) { a.Flags = 0 }},
		{"flag without xattr list", func(a *Attr) { a.XattrList = 0 }},
		{"xattr list too long", func(a *Attr) { a.XattrList = MaxXattrList + 1 }},
		{"device number", func(a *Attr) { a.Rdev = 1 }},
		{"block size", func(a *Attr) { a.BlockSize = 2048 }},
		{"layout", func(a *Attr) { a.Layout = 3 }},
		{"layout none", func(a *Attr) { a.Layout = LayoutNone }},
		{"slots without serial", func(a *Attr) { a.Serial = 0 }},
		{"inline in the upper map", func(a *Attr) { a.Layout, a.Allocated, a.Upper = LayoutInline, 0, true }},
		{"inline and moving", func(a *Attr) { a.Layout, a.Allocated, a.Former = LayoutInline, 0, movingFile().Former }},
		{"moving from its own object", func(a *Attr) { a.Former = Former{End: 8192, Serial: 3, BlockSize: 4096} }},
		{"moving up to the middle of a block", func(a *Attr) { a.Former = Former{End: 8192, Serial: 2, BlockSize: 16384} }},
		{"moving from blocks of no size", func(a *Attr) { a.Former = Former{End: 8192, Serial: 2} }},
		{"inline with blocks", func(a *Attr) { a.Layout = LayoutInline }},
		{"no wraps", func(a *Attr) { a.Wraps = nil }},
		{"too many wraps", func(a *Attr) { a.Wraps = make([]Wrap, MaxWraps+1) }},
		{"wraps out of order", func(a *Attr) { a.Wraps[0].Epoch = 2 }},
		{"epoch without wrap", func(a *Attr) { a.Epoch = 3 }},
		{"epoch 0", func(a *Attr) { a.Wraps[0].Epoch = 0 }},
		{"directory with contents", func(a *Attr) { a.Mode = ModeDir }},
	} {
		a := sampleFile()
		if err := checkAttr(a); err != nil {
			t.Fatalf("the sample: %v", err)
		}
		c.change(a)
		if err := checkAttr(a); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
		if len(a.Wraps) > MaxWraps {
			continue
		}
		if _, err := decodeAttr(a.Ino, encodeAttr(a)); !errors.Is(err, ErrCorrupt) && c.name != "block size" {
			t.Errorf("%s: decoded: %v", c.name, err)
		}
	}
}

func TestMapRowRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(e *Entry)
	}{
		{"absent, not zero", func(e *Entry) { e.Present = false }},
		{"epoch 0", func(e *Entry) { e.Epoch = 0 }},
		{"empty", func(e *Entry) { e.PlainLen, e.StoredLen = 0, 0 }},
		{"too long", func(e *Entry) { e.PlainLen, e.StoredLen = blockcrypt.MaxBlockSize+1, blockcrypt.MaxBlockSize+1 }},
		{"codec", func(e *Entry) { e.Codec = 1 }},
		{"stored length without codec", func(e *Entry) { e.StoredLen-- }},
	} {
		m := sampleRow()
		if err := checkMapRow(m); err != nil {
			t.Fatalf("the sample: %v", err)
		}
		c.change(&m[5])
		if err := checkMapRow(m); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// TestWorkedSizes holds the numbers of docs/FORMAT.md, section 11.
func TestWorkedSizes(t *testing.T) {
	full := new(MapRow)
	for i := range full {
		full[i] = Entry{Present: true, Epoch: 1, PlainLen: 4096, StoredLen: 4096}
	}
	one := &MapRow{0: full[0]}
	short := *full
	short[31].PlainLen, short[31].StoredLen = 100, 100
	file := sampleFile()
	file.Wraps = file.Wraps[:1]
	g := Garbage{Ino: 1, Serial: 1}
	const sealing = blockcrypt.SealOverhead
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"directory", len(attrKey(1)) + len(encodeAttr(sampleDir())) + sealing, 201},
		{"file", len(attrKey(1)) + len(encodeAttr(file)) + sealing, 329},
		{"dentry", len(dentryRowKey(1, NameTag{})) + len(encodeDentry(&dentry{name: []byte("hello.txt")})) + sealing, 84},
		{"full map row", len(mapRowKey(1, 1)) + len(EncodeMapRow(nil, full)) + sealing, 1098},
		{"map row of one", len(mapRowKey(1, 1)) + len(EncodeMapRow(nil, one)) + sealing, 106},
		{"map row, short end", len(mapRowKey(1, 1)) + len(EncodeMapRow(nil, &short)) + sealing, 1103},
		{"inline", len(inoKey(kindInline, 1)) + len(encodeInline(&Inline{Sealed: make([]byte, 128)})), 143},
		{"link", len(linkKey(1, 1, NameTag{})) + len(encodeMark()) + sealing, 74},
		{"garbage", len(garbageKey(&g)) + len(encodeGarbage(&g)) + sealing, 75},
		{"xattr", len(xattrKey(1, NameTag{})) + len(encodeXattr("user.a", make([]byte, 10))) + sealing, 83},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d bytes, documented %d", c.name, c.got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	g := Garbage{Ino: 2, Serial: 3, Op: GarbagePunch, First: 4}
	for _, c := range []struct {
		name   string
		key    []byte
		golden string
	}{
		{"attr", attrKey(2), "41 0000000000000002"},
		{"image", ImageKey(2, 3), "42 0000000000000002 0000000000000003"},
		{"map", mapRowKey(2, 3), "43 0000000000000002 0000000000000003"},
		{"dentry", dentryRowKey(2, NameTag{1, 15: 2}), "44 0000000000000002 01" + zeros(14) + "02"},
		{"garbage", garbageKey(&g), "47 0000000000000002 0000000000000003 01 0000000000000004"},
		{"inline", inoKey(kindInline, 2), "49 0000000000000002"},
		{"kept", inoKey(kindKept, 2), "4b 0000000000000002"},
		{"link", linkKey(2, 3, NameTag{4}), "4c 0000000000000002 0000000000000003 04" + zeros(15)},
		{"marker", MarkerKey(2), "4d 0000000000000002"},
		{"counter", counterKey(counterInode), "4e 696e6f6465"},
		{"orphan", inoKey(kindOrphan, 2), "4f 0000000000000002"},
		{"symlink", inoKey(kindSymlink, 2), "53 0000000000000002"},
		{"xattr", xattrKey(2, NameTag{1}), "58 0000000000000002 01" + zeros(15)},
		{"zone", zoneKey(2), "5a 0000000000000002"},
	} {
		if want := unhex(t, c.golden); !bytes.Equal(c.key, want) {
			t.Errorf("%s: %x, golden %x", c.name, c.key, want)
		}
	}
	if got, ok := parseGarbageKey(garbageKey(&g)); !ok || got != g {
		t.Errorf("garbage key: %+v, %v", got, ok)
	}
	if !JournalOnly(ImageKey(1, 1)) || !JournalOnly(MarkerKey(1)) || JournalOnly(attrKey(1)) || JournalOnly(nil) {
		t.Error("JournalOnly is wrong")
	}
	if got := afterPrefix([]byte{'A', 0xff, 0xff}); !bytes.Equal(got, []byte{'B'}) {
		t.Errorf("afterPrefix: %x", got)
	}
}

func sampleKept() *Kept {
	return &Kept{ID: 1, Found: Time{Sec: 7, Nsec: 8}, Ino: 9, Offset: 4096, Length: 2048, Where: "A", What: "BC", Key: []byte("D"), Value: []byte{0xff}}
}
