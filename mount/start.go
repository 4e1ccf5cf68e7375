package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/fs/transport"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/client"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
)

// StartConfig is what `kmsfs mount` was asked for.
type StartConfig struct {
	Volume       string
	MountPoint   string
	KeyStore     string // "": keystore.DefaultDir
	Secret       SecretSource
	Options      Options
	KeyTTL       time.Duration // 0: the keyring's default
	AuditFailure string        // AuditRefuse or AuditContinue
	AuditLevel   string        // of directories without a policy; "" is access
	// AcceptRestore accepts a volume that is older than the key store knows.
	AcceptRestore bool
	Metrics       string // where figures are served: unix:PATH or a loopback address; "": nowhere
	Version       string // of this program
}

// daemonConfig is what the file daemon is told on its input.
type daemonConfig struct {
	Volume        string        `json:"volume"`
	MountPoint    string        `json:"mount_point"`
	KeyStore      string        `json:"key_store"`
	KeyFile       string        `json:"key_file,omitempty"`   // to start the key daemon again with, should it die
	Credential    string        `json:"credential,omitempty"` // the same
	Options       Options       `json:"options"`
	KeyTTL        time.Duration `json:"key_ttl"`
	AuditFailure  string        `json:"audit_failure,omitempty"`
	AuditLevel    audit.Level   `json:"audit_level,omitempty"`
	AcceptRestore bool          `json:"accept_restore,omitempty"`
	Metrics       string        `json:"metrics,omitempty"`
	Version       string        `json:"version"`
	Log           string        `json:"log,omitempty"`
}

// Start mounts a volume in the background and returns when the mount answers. The key daemon is started first, if none runs.
func Start(ctx context.Context, cfg StartConfig) error {
	d, err := prepare(ctx, &cfg)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode daemon configuration: %w", err)
	}
	return spawn([]string{"mount-daemon", "--", d.Volume, d.MountPoint}, d.Log, raw)
}

// Foreground mounts a volume and serves it until the mount is gone or ctx is done.
func Foreground(ctx context.Context, cfg StartConfig) error {
	log := daemonLog("")
	d, err := prepare(ctx, &cfg)
	if err != nil {
		return err
	}
	d.Log = ""
	locked.Harden(log)
	collectEarly()
	return serve(ctx, d, log, func(error) {})
}

// Daemon is the process that Start makes: it takes its configuration from InputFD and reports to ReadyFD.
func Daemon(ctx context.Context) error {
	ready := ReadyTo(ReadyFD)
	input := os.NewFile(InputFD, "input")
	var cfg daemonConfig
	raw, err := io.ReadAll(io.LimitReader(input, 64<<10))
	input.Close()
	if err == nil {
		err = json.Unmarshal(raw, &cfg)
	}
	if err != nil {
		err = fmt.Errorf("%w: read its configuration: %w", ErrDaemon, err)
		ready.Tell(err)
		return err
	}
	log := daemonLog(cfg.Log)
	locked.Harden(log)
	collectEarly()
	return serve(ctx, cfg, log, ready.Tell)
}

// moreProcessors gives Go more processors than the machine has where requests come over io_uring (transport.Waiting). GOMAXPROCS in the environment has precedence.
func moreProcessors(kind transport.Kind) {
	if kind == transport.Uring && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + transport.Waiting)
	}
}

// prepare makes paths absolute, refuses early what can't work, before anybody is asked for a secret, and sees that the key daemon runs.
func prepare(ctx context.Context, cfg *StartConfig) (daemonConfig, error) {
	run, err := openRuntime()
	if err != nil {
		return daemonConfig{}, err
	}
	if cfg.KeyStore, err = keyStoreDir(cfg.KeyStore); err != nil {
		return daemonConfig{}, err
	}
	if err := cfg.Secret.absolute(); err != nil {
		return daemonConfig{}, err
	}
	if l := audit.Level(cfg.AuditLevel); l != "" && !l.Valid() {
		return daemonConfig{}, fmt.Errorf("%w: --audit is %s, %s or %s", ErrUsage, audit.LevelDenied, audit.LevelAccess, audit.LevelFull)
	}
	if f := cfg.AuditFailure; f != "" && f != AuditRefuse && f != AuditContinue {
		return daemonConfig{}, fmt.Errorf("%w: --audit-failure is %s or %s", ErrUsage, AuditRefuse, AuditContinue)
	}
	if cfg.KeyTTL < 0 {
		return daemonConfig{}, fmt.Errorf("%w: a key cannot be kept for %v", ErrUsage, cfg.KeyTTL)
	}
	if cfg.Metrics, err = metricsAddress(cfg.Metrics); err != nil {
		return daemonConfig{}, err
	}
	p, err := checkMountPoint(cfg.Volume, cfg.KeyStore, cfg.MountPoint)
	if err != nil {
		return daemonConfig{}, err
	}
	if err := ensureKeyd(ctx, p.KeyStore, &cfg.Secret); err != nil {
		return daemonConfig{}, err
	}
	id, err := volumeIDOf(ctx, p)
	if err != nil {
		return daemonConfig{}, err
	}
	return daemonConfig{
		Volume: p.Volume, MountPoint: p.MountPoint, KeyStore: p.KeyStore, KeyFile: cfg.Secret.KeyFile, Credential: cfg.Secret.Credential,
		Options: cfg.Options, KeyTTL: cfg.KeyTTL, AuditFailure: cfg.AuditFailure, AuditLevel: audit.Level(cfg.AuditLevel), AcceptRestore: cfg.AcceptRestore, Metrics: cfg.Metrics, Version: cfg.Version, Log: run.log(id),
	}, nil
}

// volumeIDOf reads the volume's id from its superblock, which is not verified yet: the daemon does that.
func volumeIDOf(ctx context.Context, p place) (string, error) {
	sb, _, err := readSuperblock(ctx, socketOf(p.KeyStore), p.Volume)
	if code := violationOf(err); code != "" {
		keys := dialKeys(p.KeyStore)
		defer keys.Close()
		reportViolation(ctx, keys, client.Violation{Path: p.Volume, Code: code, Message: withoutAdvice(err).Error()}, nil)
	}
	if err != nil {
		return "", err
	}
	return sb.Volume.String(), nil
}

// keyStoreDir returns the absolute path of the key store that was named, or the default one.
func keyStoreDir(dir string) (string, error) {
	if dir == "" {
		return keystore.DefaultDir()
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("key store %s: %w", dir, err)
	}
	return abs, nil
}
