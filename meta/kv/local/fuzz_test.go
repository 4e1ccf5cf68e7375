package local

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt"
)

func fuzzAEAD(f *testing.F) cipher.AEAD {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		f.Fatal(err)
	}
	return aead
}

// sample encodes some changes and returns the record, its ops and its blob.
func sample(aead cipher.AEAD, writes ...write) (record, ops, blob []byte) {
	var e encoder
	e.encode(writes)
	record, _ = e.seal(aead, 1, [TagSize]byte{})
	return record, e.buf[recordPrefix+recordHeaderSize:][:e.opsLen], e.buf[e.blob:]
}

var samples = [][]write{
	{{key: []byte("A1"), value: []byte("value")}},
	{{key: []byte("A1"), deleted: true}, {key: []byte("B1"), value: []byte("image"), journalOnly: true}},
	{{key: []byte("B1"), value: []byte("one"), journalOnly: true}, {key: []byte("B2"), value: []byte("two"), journalOnly: true},
		{key: []byte("B3"), deleted: true, journalOnly: true}, {key: []byte("C"), value: []byte("v")}},
}

// FuzzRecord opens arbitrary bytes as a record. What opens is what was sealed.
func FuzzRecord(f *testing.F) {
	aead := fuzzAEAD(f)
	for _, w := range samples {
		record, _, _ := sample(aead, w...)
		f.Add(record)
		f.Add(append(bytes.Clone(record), record...))
		f.Add(record[:len(record)-1])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var scratch []byte
		r, ok := openRecord(aead, b, 0, [TagSize]byte{}, &scratch)
		if !ok {
			return
		}
		if r.size() > len(b) || r.sequence != 1 {
			t.Fatalf("a record of %d bytes, sequence %d in %d bytes", r.size(), r.sequence, len(b))
		}
		if err := parseOps(r.ops, r.blob, func(op) error { return nil }); err != nil {
			t.Fatalf("an authentic record does not parse: %v", err)
		}
	})
}

// FuzzOps parses arbitrary ops, as a bug of the writer would authenticate them. What parses can be encoded
// and parsed again to the same changes.
func FuzzOps(f *testing.F) {
	aead := fuzzAEAD(f)
	for _, w := range samples {
		_, ops, blob := sample(aead, w...)
		f.Add(ops, blob)
	}
	f.Fuzz(func(t *testing.T, ops, blob []byte) {
		parse := func(ops, blob []byte) (writes []write, err error) {
			err = parseOps(ops, blob, func(o op) error {
				writes = append(writes, write{key: o.key, value: o.value, deleted: o.kind == opDelete, journalOnly: o.kind == opBlob})
				return nil
			})
			return writes, err
		}
		first, err := parse(ops, blob)
		if err != nil {
			return
		}
		_, ops2, blob2 := sample(aead, first...)
		second, err := parse(ops2, blob2)
		if err != nil || len(second) != len(first) {
			t.Fatalf("parsed again: %d of %d changes, %v", len(second), len(first), err)
		}
		for i, w := range first {
			v := second[i]
			if !bytes.Equal(w.key, v.key) || !bytes.Equal(w.value, v.value) || w.deleted != v.deleted || w.journalOnly != v.journalOnly {
				t.Fatalf("change %d: %+v became %+v", i, w, v)
			}
		}
	})
}

// FuzzSegmentHeader: what parses encodes to the same bytes, and opens only if it is authentic.
func FuzzSegmentHeader(f *testing.F) {
	key, volume := &blockcrypt.Key{1}, blockcrypt.VolumeID{2}
	h, err := newSegmentHeader(3, 4, 5, [TagSize]byte{6})
	if err != nil {
		f.Fatal(err)
	}
	aead, err := segmentAEAD(key, volume, h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h.encode(volume, aead))
	f.Add(make([]byte, segmentHeaderSize))
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseSegmentHeader(b, volume)
		if err != nil {
			return
		}
		aead, err := segmentAEAD(key, volume, h)
		if err != nil {
			t.Fatal(err)
		}
		same := h.encode(volume, aead)
		if !bytes.Equal(same[:segmentCovered], b[:segmentCovered]) {
			t.Fatalf("header %x became %x", b[:segmentCovered], same[:segmentCovered])
		}
		_, _, err = openSegmentHeader(b, key, volume)
		if authentic := bytes.Equal(same[:segmentCovered+TagSize], b[:segmentCovered+TagSize]); authentic != (err == nil) {
			t.Fatalf("authentic %v, open says %v", authentic, err)
		}
	})
}

// FuzzCheckpointRow: an authentic row of any content decodes to what encodes to the same bytes, or not.
func FuzzCheckpointRow(f *testing.F) {
	key := &blockcrypt.Key{1}
	c := checkpoint{clean: true, generation: 7, point: point{8, [TagSize]byte{9}}}
	c.heads = headLog{from: 3, points: []point{{4, [TagSize]byte{5}}, {6, [TagSize]byte{7}}}}
	for _, row := range [][]byte{c.encode(key), checkpoint{}.encode(key)} {
		f.Add(row[:len(row)-sha256.Size])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := decodeCheckpoint(append(bytes.Clone(body), make([]byte, sha256.Size)...), key); err == nil {
			t.Fatal("a row without authentication was accepted")
		}
		mac := hmac.New(sha256.New, key[:])
		mac.Write(body)
		row := mac.Sum(bytes.Clone(body))
		c, err := decodeCheckpoint(row, key)
		if err == nil && !bytes.Equal(c.encode(key), row) {
			t.Fatalf("row %x became %x", row, c.encode(key))
		}
	})
}
