package superblock

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv/local/beneath"
)

const (
	// FileName is the superblock's name in the volume directory.
	FileName = "kmsfs.json"
	// MaxFile is the largest superblock in bytes.
	MaxFile = 32 << 10

	formatName = "kmsfs volume"
)

// file is the JSON form.
type file struct {
	Format     string              `json:"format"`
	Version    int                 `json:"version"`
	Volume     blockcrypt.VolumeID `json:"volume"`
	Created    string              `json:"created"`
	Revision   uint32              `json:"revision"`
	Features   []string            `json:"features"`
	VolumeKey  []string            `json:"volume_key"`
	Commitment string              `json:"commitment"`
	Secrets    string              `json:"secrets"`
	MAC        string              `json:"mac"`
}

// Marshal returns the file's bytes.
func (s *Superblock) Marshal() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	f := file{
		Format: formatName, Version: Version, Volume: s.Volume, Created: s.Created.UTC().Format(time.RFC3339),
		Revision: s.Revision, Features: append([]string{}, s.Features...), Commitment: hex.EncodeToString(s.Commitment[:]),
		Secrets: base64.StdEncoding.EncodeToString(s.Sealed), MAC: hex.EncodeToString(s.MAC[:]),
	}
	for _, w := range s.Wraps {
		f.VolumeKey = append(f.VolumeKey, base64.StdEncoding.EncodeToString(w))
	}
	out, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode superblock: %w", err)
	}
	return append(out, '\n'), nil
}

// Parse reads the file's bytes. Nothing in the result is authentic before Open. Errors: ErrVersion and ErrFeature for what a later program may
// have written, ErrDamaged for anything else that is wrong.
func Parse(data []byte) (*Superblock, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrDamaged, MaxFile)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if head.Format != formatName {
		return nil, fmt.Errorf("%w: its format is %.40q", ErrDamaged, head.Format)
	}
	if head.Version != Version {
		return nil, fmt.Errorf("%w %d (this program reads %d)", ErrVersion, head.Version, Version)
	}
	var f file
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	s, err := f.superblock()
	if err != nil {
		return nil, err
	}
	return s, s.validate()
}

func (f *file) superblock() (*Superblock, error) {
	s := &Superblock{Volume: f.Volume, Revision: f.Revision, Features: f.Features}
	var err error
	if s.Created, err = time.Parse(time.RFC3339, f.Created); err != nil {
		return nil, fmt.Errorf("%w: time of creation", ErrDamaged)
	}
	s.Created = s.Created.UTC()
	if len(f.VolumeKey) > MaxWraps {
		return nil, fmt.Errorf("%w: %d wraps of the volume key", ErrDamaged, len(f.VolumeKey))
	}
	for _, w := range f.VolumeKey {
		blob, err := base64.StdEncoding.Strict().DecodeString(w)
		if err != nil {
			return nil, fmt.Errorf("%w: wrap of the volume key: %v", ErrDamaged, err)
		}
		s.Wraps = append(s.Wraps, blob)
	}
	if s.Sealed, err = base64.StdEncoding.Strict().DecodeString(f.Secrets); err != nil {
		return nil, fmt.Errorf("%w: secrets: %v", ErrDamaged, err)
	}
	if !decodeHex(s.Commitment[:], f.Commitment) || !decodeHex(s.MAC[:], f.MAC) {
		return nil, fmt.Errorf("%w: commitment or mac", ErrDamaged)
	}
	return s, nil
}

func decodeHex(dst []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// Read returns the superblock of a volume directory, parsed and not yet authentic, and the file's bytes. ErrMissing if there is none; else as Parse.
func Read(volumeDir string) (*Superblock, []byte, error) {
	f, err := beneath.OpenFile(volumeDir, FileName, os.O_RDONLY, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil, fmt.Errorf("%w in %s", ErrMissing, volumeDir)
	case errors.Is(err, unix.ELOOP):
		return nil, nil, fmt.Errorf("%w: it is a symbolic link", ErrDamaged)
	case errors.Is(err, beneath.ErrNotPlain):
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.Is(err, unix.ENXIO):
		return nil, nil, fmt.Errorf("%w: it is a socket", ErrDamaged)
	case err != nil:
		return nil, nil, fmt.Errorf("read superblock: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read superblock: %w", err)
	}
	s, err := Parse(data)
	return s, data, err
}

// Write puts the bytes of a superblock into a volume directory: all of it or nothing, and durable when it returns.
func Write(volumeDir string, data []byte) error {
	const fresh = FileName + ".new"
	err := writeSynced(volumeDir, fresh, data)
	if err == nil {
		err = beneath.Rename(volumeDir, fresh, FileName)
	}
	if err == nil {
		err = beneath.SyncDir(volumeDir, ".")
	}
	if err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	return nil
}

func writeSynced(dir, name string, data []byte) error {
	if err := beneath.Remove(dir, name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := beneath.OpenFile(dir, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
