package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/meta"
)

// InitConfig says what volume to make. A key store is made where there is none.
type InitConfig struct {
	Volume   string
	KeyStore string // "": keystore.DefaultDir
	Secret   SecretSource
	Token    TokenConfig // of a new key store
	Managed  bool        // under the key that the service manages, instead of one of its own

	// How the contents of files are stored, until a policy says otherwise.
	BlockSize   string // bytes, or with K or M behind; "": 4K, with compression 128K
	Compression string // none, s2 or zstd, with :LEVEL behind or not; "": none
}

// params returns the parameters of the root zone. ErrUsage, and why, for what cannot be.
func (cfg *InitConfig) params() (meta.Params, error) {
	p := meta.DefaultParams()
	var err error
	if cfg.Compression != "" {
		if p.Codec, p.Level, err = meta.ParseCompression(cfg.Compression); err != nil {
			return p, badParams(err)
		}
	}
	if p.Codec != meta.CodecNone {
		p.BlockSize = meta.DefaultCompressedBlock
	}
	if cfg.BlockSize != "" {
		if p.BlockSize, err = parseBlockSize(cfg.BlockSize); err != nil {
			return p, err
		}
	}
	if err := p.Check(); err != nil {
		return p, badParams(err)
	}
	return p, nil
}

// badParams says what is wrong with parameters, without the words for code.
func badParams(err error) error {
	return fmt.Errorf("%w: %s", ErrUsage, strings.TrimSuffix(err.Error(), ": "+meta.ErrInvalid.Error()))
}

// parseBlockSize reads 65536, 64K or 1M.
func parseBlockSize(text string) (uint32, error) {
	number, shift := text, 0
	switch {
	case strings.HasSuffix(text, "K"):
		number, shift = text[:len(text)-1], 10
	case strings.HasSuffix(text, "M"):
		number, shift = text[:len(text)-1], 20
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n > 1<<30>>shift {
		return 0, fmt.Errorf("%w: block size %q is not like 4096, 64K or 1M", ErrUsage, text)
	}
	return uint32(n << shift), nil
}

// InitResult says what was made.
type InitResult struct {
	Volume      string `json:"volume"`
	ID          string `json:"volume_id"`
	Alias       string `json:"alias"`
	KeyID       string `json:"key"` // ARN
	KeyStore    string `json:"key_store"`
	NewKeyStore bool   `json:"new_key_store"`
	Token       string `json:"token"`
	KeyFile     string `json:"key_file,omitempty"`
	NewKeyFile  bool   `json:"new_key_file,omitempty"`
	SecretName  string `json:"-"` // for people: "passphrase", "key file F", ...
}

// Init makes a volume: nothing that looks like one is left when it fails, and one whose making was cut short is cleaned by the next Init.
//
// Errors: ErrNotEmpty; those of making and opening the key store.
func Init(ctx context.Context, cfg InitConfig) (res InitResult, err error) {
	if res.Volume, err = filepath.Abs(cfg.Volume); err != nil {
		return res, fmt.Errorf("volume %s: %w", cfg.Volume, err)
	}
	params, err := cfg.params()
	if err == nil {
		err = checkPlaces(cfg, res.Volume)
	}
	if err != nil { // before anything is made
		return res, err
	}
	store, err := openOrMakeKeyStore(ctx, cfg)
	if err != nil {
		return res, err
	}
	res.KeyStore, res.NewKeyStore = store.dir, store.made
	res.KeyFile, res.NewKeyFile, res.SecretName = store.keyFile, store.madeKeyFile, store.secretName
	held := heldSecret{source: &cfg.Secret, buf: store.secret}
	defer held.close()
	started, err := startKeydBy(ctx, store.dir, &held)
	if err != nil {
		return res, err
	}
	if started { // what init started, init ends
		defer func() { err = errors.Join(err, stopKeyd(context.WithoutCancel(ctx), store.dir)) }()
	}
	keys := dialKeys(store.dir)
	defer keys.Close()
	if st, err := keys.Status(ctx); err == nil {
		res.Token = describeToken(st.Token)
	}
	site, err := openSite(ctx, res.Volume)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, site.close(err == nil)) }()
	b := builder{keys: keys, socket: socketOf(store.dir), dir: site.dir, params: params, managed: cfg.Managed}
	if err := b.build(ctx); err != nil {
		return res, fmt.Errorf("make volume %s: %w", res.Volume, err)
	}
	res.Volume, res.ID, res.Alias, res.KeyID = site.dir, b.id.String(), b.alias, b.cmk
	return res, nil
}

// checkPlaces refuses a key store inside the volume, and a directory that is no place for a volume.
func checkPlaces(cfg InitConfig, volume string) error {
	store, err := keyStoreDir(cfg.KeyStore)
	if err != nil {
		return err
	}
	if within(store, volume) {
		return fmt.Errorf("%w: the key store %s lies inside the volume; a copy of the volume would carry its keys", ErrUsage, store)
	}
	if _, err := os.Lstat(volume); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return (&site{dir: volume}).checkVacant()
}

// createCMK makes the volume's customer master key, alias/NAME after the directory, with a number where that is taken.
func createCMK(ctx context.Context, keys *client.Client, volumeDir string) (arn, alias string, err error) {
	name := aliasName(filepath.Base(volumeDir))
	for i := 1; i < 1000; i++ {
		alias = "alias/" + name
		if i > 1 {
			alias = fmt.Sprintf("alias/%s-%d", name, i)
		}
		key, err := keys.CreateKey(ctx, keymgr.Caller{}, keymgr.CreateKeyInput{Description: "volume " + volumeDir, Alias: alias})
		if err == nil {
			return key.ARN, alias, nil
		}
		if !errors.Is(err, keymgr.ErrAlreadyExists) {
			return "", "", fmt.Errorf("create the volume's key %s: %w", alias, err)
		}
	}
	return "", "", fmt.Errorf("create the volume's key alias/%s: %w", name, keymgr.ErrAlreadyExists)
}

// aliasName turns a directory's name into what an alias may hold.
func aliasName(base string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, base)
	if strings.Trim(name, "-") == "" || strings.HasPrefix(strings.ToLower(name), "aws") {
		name = "volume"
	}
	return name[:min(len(name), 200)]
}

// site is the directory that becomes a volume, held by its lock. Until the superblock is there, a marker says that everything in it is ours to remove.
type site struct {
	dir  string
	made bool // the directory itself
	lock *volumeLock
}

// initMarker is there while a volume is being made.
const initMarker = "kmsfs.init"

// siteNames is all that init makes in the directory.
var siteNames = []string{initMarker, lockName, objectsName, "meta", "meta.new", "journal", "export", "kmsfs.json", "kmsfs.json.new"}

// openSite makes the directory, or takes an empty one or one that an interrupted init left.
func openSite(ctx context.Context, dir string) (*site, error) {
	s := &site{}
	err := os.Mkdir(dir, 0o700)
	s.made = err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	if s.dir, err = resolve(dir); err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	if err := s.checkVacant(); err != nil {
		return nil, err
	}
	if s.lock, err = lockVolume(ctx, s.dir, func() error { return errors.New("it is being made by another process") }); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.close(false))
	}
	return s, nil
}

// checkVacant refuses a directory that holds anything, unless all of it is what an interrupted init left.
func (s *site) checkVacant() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	interrupted, foreign := false, ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "kmsfs.json":
			return advise(fmt.Errorf("%w: %s is a volume already", ErrNotEmpty, s.dir), "kmsfs mount %s MOUNTPOINT mounts it; for another volume choose a new or empty directory", s.dir)
		case name == initMarker:
			interrupted = true
		case !isSiteName(name):
			foreign = name
		}
	}
	if foreign != "" || len(entries) > 0 && !interrupted {
		return advise(fmt.Errorf("%w: %s", ErrNotEmpty, s.dir), "choose a new or empty directory")
	}
	return nil
}

func isSiteName(name string) bool {
	for _, n := range siteNames {
		if n == name {
			return true
		}
	}
	return false
}

// prepare empties the directory of what an interrupted init left, and puts the marker.
func (s *site) prepare() error {
	if err := s.removeAll(lockName, initMarker); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, initMarker), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	return errors.Join(f.Close(), os.Chmod(s.dir, 0o700), syncDir(s.dir))
}

func (s *site) removeAll(except ...string) error {
	var errs []error
	for _, name := range siteNames {
		if len(except) > 0 && (name == except[0] || name == except[1]) {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(s.dir, name)))
	}
	return errors.Join(errs...)
}

// close removes the marker when the volume is complete, and everything when it is not.
func (s *site) close(complete bool) error {
	var errs []error
	if complete {
		errs = append(errs, os.Remove(filepath.Join(s.dir, initMarker)), syncDir(s.dir), syncDir(filepath.Dir(s.dir)))
	} else {
		errs = append(errs, s.removeAll())
		if s.made {
			errs = append(errs, os.Remove(s.dir))
		}
	}
	return errors.Join(append(errs, s.lock.release())...)
}
