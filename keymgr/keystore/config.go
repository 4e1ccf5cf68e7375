package keystore

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/hsm/kms"
)

// Kinds of secrets, as they stand in the configuration and in keymgr.Status.Unlock.
const (
	Passphrase = "passphrase" // of an embedded token
	KeyFile    = "key-file"   // its content; of an embedded token
	Credential = "credential" // content of a systemd credential; of an embedded token: what a key file holds; of PKCS#11: the PIN
	PIN        = "pin"        // of a PKCS#11 token
)

// TokenConfig says where the backing keys live.
type TokenConfig struct {
	Kind   string // hsm.KindSoft, hsm.KindPKCS11 or hsm.KindKMS
	Module string // PKCS#11: absolute path of the module; another key manager: where it is, see package hsm/kms
	Label  string // PKCS#11: label of the token
	Serial string // PKCS#11: its serial number; filled in by Init

	Binding string // another key manager: kms.BindingSize bytes in hex, filled in by Init
}

// UnlockConfig says how the key store is unlocked. With KeyFile or Credential set it unlocks itself.
type UnlockConfig struct {
	Kind       string // Passphrase, KeyFile, Credential or PIN
	KeyFile    string // absolute path of the key file, where Kind is KeyFile
	Credential string // name of the systemd credential, where Kind is Credential
}

// Unattended says whether the key store can be unlocked without anybody there.
func (u UnlockConfig) Unattended() bool { return u.KeyFile != "" || u.Credential != "" }

// Config is a key store's configuration.
type Config struct {
	ID       [16]byte
	Created  time.Time
	Token    TokenConfig
	Unlock   UnlockConfig
	RootKey  hsm.KeyID // the token's key that wraps the store key
	StoreKey []byte    // wrapped; keymgr.EncodeSealed
	AuditDir string    // absolute path of the audit log; "": KEYSTORE/audit
	// AuditSinks are other places that get every event, as package audit/sink reads them.
	AuditSinks []string
	// Auditor is the public key that events are sealed to; "": they are not.
	Auditor string
}

// configFile is the file's JSON. Unknown members are refused: they would mean something to whoever wrote them.
type configFile struct {
	Format   string           `json:"format"` // "kmsfs key store"
	Version  int              `json:"version"`
	ID       string           `json:"id"`
	Created  time.Time        `json:"created"`
	Token    tokenConfigFile  `json:"token"`
	Unlock   unlockConfigFile `json:"unlock"`
	RootKey  string           `json:"rootKey"`
	StoreKey []byte           `json:"storeKey"`
	AuditDir string           `json:"auditDir,omitempty"`
	Sinks    []string         `json:"auditSinks,omitempty"`
	Auditor  string           `json:"auditor,omitempty"`
}

type tokenConfigFile struct {
	Kind   string `json:"kind"`
	Module string `json:"module,omitempty"`
	Label  string `json:"label,omitempty"`
	Serial string `json:"serial,omitempty"`

	Binding string `json:"binding,omitempty"`
}

type unlockConfigFile struct {
	Kind       string `json:"kind"`
	KeyFile    string `json:"keyFile,omitempty"`
	Credential string `json:"credential,omitempty"`
}

const (
	configName    = "keystore.json"
	configFormat  = "kmsfs key store"
	configVersion = 1
	maxConfig     = 64 << 10
)

// Load reads the configuration of the key store in dir, without a secret. Errors: ErrNone, ErrUnsafe, ErrDamaged, ErrVersion, or the system's.
func Load(dir string) (Config, error) {
	cfg, err := load(dir)
	if err != nil {
		return Config{}, fmt.Errorf("open key store %s: %w", dir, err)
	}
	return cfg, nil
}

func load(dir string) (Config, error) {
	if _, err := CheckDir(dir); err != nil {
		return Config{}, err
	}
	f, err := os.OpenFile(filepath.Join(dir, configName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, ErrNone
	}
	if err != nil {
		return Config{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Config{}, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o022 != 0 {
		return Config{}, fmt.Errorf("%w: %s is %s", ErrUnsafe, configName, st.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, err
	}
	return parseConfig(data)
}

func parseConfig(data []byte) (Config, error) {
	if len(data) > maxConfig {
		return Config{}, fmt.Errorf("%w: %s is too long", ErrDamaged, configName)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil || head.Format != configFormat {
		return Config{}, fmt.Errorf("%w: %s is not a key store's configuration", ErrDamaged, configName)
	}
	if head.Version != configVersion {
		return Config{}, fmt.Errorf("%w: %d, this is kmsfs for version %d", ErrVersion, head.Version, configVersion)
	}
	var f configFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Config{}, fmt.Errorf("%w: %s: %v", ErrDamaged, configName, err)
	}
	cfg := Config{Created: f.Created, Token: TokenConfig(f.Token), Unlock: UnlockConfig(f.Unlock), StoreKey: f.StoreKey, AuditDir: f.AuditDir, AuditSinks: f.Sinks, Auditor: f.Auditor}
	id, err := hex.DecodeString(f.ID)
	if err != nil || len(id) != len(cfg.ID) {
		return Config{}, fmt.Errorf("%w: id", ErrDamaged)
	}
	copy(cfg.ID[:], id)
	if cfg.RootKey, err = hsm.ParseKeyID(f.RootKey); err != nil {
		return Config{}, fmt.Errorf("%w: root key: %v", ErrDamaged, err)
	}
	if err := cfg.check(); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return cfg, nil
}

// check says what in the configuration contradicts itself.
func (c *Config) check() error {
	t, u := c.Token, c.Unlock
	if _, err := Auditor(*c); err != nil {
		return err
	}
	if _, err := Sinks(*c); err != nil {
		return err
	}
	if c.AuditDir != "" && !filepath.IsAbs(c.AuditDir) {
		return errors.New("the audit log's place is not an absolute path")
	}
	switch t.Kind {
	case hsm.KindSoft:
		if t.Module != "" || t.Label != "" || u.Kind == PIN {
			return errors.New("an embedded token has no module, label or PIN")
		}
	case hsm.KindPKCS11:
		if !filepath.IsAbs(t.Module) || t.Label == "" {
			return errors.New("a PKCS#11 token needs the absolute path of its module and its label")
		}
		if u.Kind != PIN && u.Kind != Credential {
			return fmt.Errorf("a PKCS#11 token opens by its PIN, not by a %s", u.Kind)
		}
	case hsm.KindKMS:
		if _, err := kms.ParseLocation(t.Module); err != nil {
			return err
		}
		if b, err := hex.DecodeString(t.Binding); err != nil || len(b) != kms.BindingSize {
			return errors.New("the binding to the other key manager is malformed")
		}
		if u.Kind != KeyFile && u.Kind != Credential {
			return fmt.Errorf("another key manager is opened by an access key in a key file or credential, not by a %s", u.Kind)
		}
	default:
		return fmt.Errorf("unknown kind of token %q", t.Kind)
	}
	switch u.Kind {
	case Passphrase, PIN, KeyFile, Credential:
	default:
		return fmt.Errorf("unknown kind of secret %q", u.Kind)
	}
	if u.KeyFile != "" && (u.Kind != KeyFile || !filepath.IsAbs(u.KeyFile)) || u.Credential != "" && u.Kind != Credential {
		return errors.New("the source of the secret does not fit its kind")
	}
	return nil
}

func (c *Config) encode() ([]byte, error) {
	data, err := json.MarshalIndent(configFile{
		Format: configFormat, Version: configVersion, ID: hex.EncodeToString(c.ID[:]), Created: c.Created.UTC(), Token: tokenConfigFile(c.Token),
		Unlock: unlockConfigFile(c.Unlock), RootKey: c.RootKey.String(), StoreKey: c.StoreKey, AuditDir: c.AuditDir, Sinks: c.AuditSinks, Auditor: c.Auditor,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return append(data, '\n'), nil
}
