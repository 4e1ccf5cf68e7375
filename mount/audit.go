package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/keymgr/audit/auditor"
	"github.com/kmsfs/kmsfs/keymgr/audit/seal"
	"github.com/kmsfs/kmsfs/keymgr/audit/trail"
	"github.com/kmsfs/kmsfs/keymgr/keystore"
	"github.com/kmsfs/kmsfs/keymgr/policy"
)

// AuditSource says which audit log is meant, and by what it is believed.
type AuditSource struct {
	Dir      string // of the log; "": the key store's
	KeyStore string
	Secret   SecretSource

	// PublicKey and Head are files with what `kmsfs audit head` printed; with them no key store is asked.
	PublicKey, Head string
	Archives        []string // where parts of the log were archived
}

// AuditState is what a key store knows of its audit logs.
type AuditState struct {
	Dir   string
	Key   seal.PublicKey
	Heads []seal.Anchor
}

// ErrAuditFaults: an audit log is not whole.
var ErrAuditFaults = errors.New("the audit log is not whole")

// maxAuditFile bounds files with keys, heads and proofs, in bytes.
const maxAuditFile = 8 << 20

// AuditHeads asks a key store for the sealed heads of its audit logs: its daemon if one runs, which seals first, else by its secret.
func AuditHeads(ctx context.Context, keyStore string, secret SecretSource) (AuditState, error) {
	dir, err := keyStoreDir(keyStore)
	if err != nil {
		return AuditState{}, err
	}
	cfg, err := loadKeyStore(dir)
	if errors.Is(err, keystore.ErrNone) {
		return AuditState{}, noKeyStore(dir)
	}
	if err != nil {
		return AuditState{}, err
	}
	out := AuditState{Dir: keystore.AuditDir(dir, cfg)}
	keys := dialKeys(dir)
	defer keys.Close()
	out.Key, out.Heads, _, err = keys.AuditHeads(ctx)
	if err == nil || !errors.Is(err, keymgr.ErrKeyUnavailable) {
		return out, err
	}
	if errors.Is(err, keymgr.ErrLocked) {
		return out, advise(err, "unlock it, or end its daemon with kmsfs keystore lock and give the secret here")
	}
	held := heldSecret{source: &secret, kind: cfg.Unlock.Kind, selfUnlocking: cfg.Unlock.Unattended()}
	defer held.close()
	if !held.unattended() {
		if _, err := held.get(); err != nil {
			return out, err
		}
	}
	out.Key, out.Heads, err = keystore.AuditHeads(ctx, dir, held.buf, keyStoreOptions(nil))
	return out, err
}

// trust gathers what the log is checked against.
func (s *AuditSource) trust(ctx context.Context) (dir string, t trail.Trust, err error) {
	t.Archives = s.Archives
	if s.PublicKey == "" && s.Head == "" {
		st, err := AuditHeads(ctx, s.KeyStore, s.Secret)
		t.Key, t.Anchors, t.Complete = st.Key, st.Heads, true
		if s.Dir != "" {
			st.Dir = s.Dir
		}
		return st.Dir, t, err
	}
	if s.PublicKey == "" || s.Head == "" {
		return "", t, fmt.Errorf("%w: --public-key and --head go together: without a head kept elsewhere a log that was cut short looks whole", ErrUsage)
	}
	if s.Dir == "" {
		return "", t, fmt.Errorf("%w: name the log's directory", ErrUsage)
	}
	if t.Key, err = readPublicKey(s.PublicKey); err != nil {
		return "", t, err
	}
	data, err := readAuditFile(s.Head)
	if err != nil {
		return "", t, err
	}
	t.Anchors, err = parseHeads(data, t.Key)
	return s.Dir, t, err
}

func readPublicKey(path string) (seal.PublicKey, error) {
	data, err := readAuditFile(path)
	if err != nil {
		return seal.PublicKey{}, err
	}
	for line := range bytes.Lines(data) { // the whole output of audit head will do
		if k, err := seal.ParsePublicKey(string(bytes.TrimPrefix(line, []byte("key: ")))); err == nil {
			return k, nil
		}
	}
	return seal.PublicKey{}, fmt.Errorf("%w: %s: %w", ErrUsage, path, seal.ErrKey)
}

func readAuditFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAuditFile+1))
	if err == nil && len(data) > maxAuditFile {
		err = fmt.Errorf("%w: %s is longer than %d bytes", ErrUsage, path, maxAuditFile)
	}
	return data, err
}

// parseHeads reads seals as `kmsfs audit head` prints them, one behind the other.
func parseHeads(data []byte, key seal.PublicKey) ([]seal.Anchor, error) {
	var out []seal.Anchor
	begin := []byte(seal.KeyName(""))
	for _, part := range bytes.SplitAfter(data, []byte("\n\n")) { // text and signature are apart by an empty line, and so are seals
		if bytes.HasPrefix(part, begin) {
			out = append(out, seal.Anchor{Seal: part})
		} else if n := len(out); n > 0 && bytes.HasPrefix(part, []byte("— ")) {
			out[n-1].Seal = append(bytes.Clone(out[n-1].Seal), append(bytes.TrimRight(part, "\n"), '\n')...)
		}
	}
	for i := range out {
		head, err := seal.Open(out[i].Seal, key)
		if err != nil {
			return nil, fmt.Errorf("%w: head: %w", ErrDamaged, err)
		}
		out[i].Head = head
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no head in the file that --head names", ErrUsage)
	}
	return out, nil
}

// VerifyAudit checks an audit log. ErrAuditFaults if it is not whole; the reports say why.
func VerifyAudit(ctx context.Context, source AuditSource) ([]trail.Report, error) {
	dir, trust, err := source.trust(ctx)
	if err != nil {
		return nil, err
	}
	reports, err := trail.Verify(ctx, dir, trust)
	if err != nil {
		return reports, err
	}
	reports = slices.DeleteFunc(reports, func(r trail.Report) bool { return r.Records == 0 && r.Sealed == 0 && len(r.Faults) == 0 }) // any other directory
	if len(reports) == 0 {
		return nil, fmt.Errorf("%w in %s", trail.ErrNoLog, dir)
	}
	faults := 0
	for _, r := range reports {
		faults += len(r.Faults)
	}
	if faults > 0 {
		return reports, advise(fmt.Errorf("%w: %d faults in %s", ErrAuditFaults, faults, dir), "keep a copy of it as it is before anything else is done")
	}
	return reports, nil
}

// AuditDir finds the log of a key store; it needs no secret.
func AuditDir(keyStore string) (string, error) {
	dir, err := keyStoreDir(keyStore)
	if err != nil {
		return "", err
	}
	cfg, err := loadKeyStore(dir)
	if errors.Is(err, keystore.ErrNone) {
		return "", noKeyStore(dir)
	}
	return keystore.AuditDir(dir, cfg), err
}

// ProveAudit makes the proof that one event is in the log.
func ProveAudit(ctx context.Context, source AuditSource, id string) (trail.Proof, error) {
	dir, trust, err := source.trust(ctx)
	if err != nil {
		return trail.Proof{}, err
	}
	var found []trail.Found
	err = trail.Search(ctx, dir, trail.Query{ID: id}, func(f trail.Found) error {
		found = append(found, trail.Found{Stream: f.Stream, Event: f.Event})
		return nil
	})
	if err != nil {
		return trail.Proof{}, err
	}
	if len(found) != 1 {
		return trail.Proof{}, advise(fmt.Errorf("%w: %d events have the id %s", keymgr.ErrNotFound, len(found), id), "kmsfs audit query --json prints events with their eventID")
	}
	for _, a := range trust.Anchors {
		if a.Stream == found[0].Stream {
			return trail.Prove(ctx, dir, int64(found[0].Event.Sequence), a)
		}
	}
	return trail.Proof{}, fmt.Errorf("%w: no head of stream %s is known", keymgr.ErrNotFound, found[0].Stream)
}

// Archived is what was taken out of a stream.
type Archived struct {
	Stream string `json:"stream"`
	UpTo   int64  `json:"up_to"` // the first record that stays
	Bytes  int64  `json:"bytes"`
}

// ArchiveAudit copies closed segments with events older than before into the directory to, has the key manager note that, and takes them out of the log.
func ArchiveAudit(ctx context.Context, keyStore string, secret SecretSource, to string, before time.Time) ([]Archived, error) {
	dir, err := AuditDir(keyStore)
	if err != nil {
		return nil, err
	}
	plan, err := trail.PlanArchive(dir, before)
	if err != nil {
		return nil, err
	}
	keys, err := OpenKeys(ctx, keyStore, secret)
	if err != nil {
		return nil, err
	}
	defer keys.Close()
	var out []Archived
	for i := range plan {
		a := &plan[i]
		if err := a.Copy(ctx, to); err != nil {
			return out, err
		}
		if err := keys.ArchiveAudit(ctx, keymgr.Caller{}, a.Stream, a.UpTo); err != nil {
			return out, err
		}
		if err := a.Remove(); err != nil {
			return out, err
		}
		out = append(out, Archived{a.Stream, a.UpTo, a.Bytes})
	}
	return out, nil
}

// AcceptAudit gives up the sealed head of a stream, so that its log is believed as it is: by the key daemon if one runs unlocked, else by the key store's secret.
func AcceptAudit(ctx context.Context, keyStore string, secret SecretSource, stream, reason string) error {
	dir, err := keyStoreDir(keyStore)
	if err != nil {
		return err
	}
	keys := dialKeys(dir)
	defer keys.Close()
	err = keys.AcceptAudit(ctx, keymgr.Caller{}, stream, reason)
	if err == nil || !errors.Is(err, keymgr.ErrKeyUnavailable) {
		return err
	}
	if errors.Is(err, keymgr.ErrLocked) {
		return advise(err, "end its daemon with kmsfs keystore lock, and give the secret here")
	}
	cfg, err := loadKeyStore(dir)
	if err != nil {
		return err
	}
	held := heldSecret{source: &secret, kind: cfg.Unlock.Kind, selfUnlocking: cfg.Unlock.Unattended()}
	defer held.close()
	if !held.unattended() {
		if _, err := held.get(); err != nil {
			return err
		}
	}
	root := policy.RootARN(keymgr.AccountID) // who has the key store and its secret
	who := keymgr.Caller{UID: os.Geteuid(), GID: os.Getegid(), PID: os.Getpid(), Principal: root, Who: policy.Principal{ARN: root, Account: keymgr.AccountID, Root: true}}
	return keystore.AcceptAudit(ctx, dir, held.buf, keyStoreOptions(nil), who, stream, reason)
}

// CheckProof checks a proof in a file against the public key in another.
func CheckProof(file, publicKey string) (*audit.Event, seal.Head, error) {
	if publicKey == "" {
		return nil, seal.Head{}, fmt.Errorf("%w: --public-key says whose seal it has to be", ErrUsage)
	}
	key, err := readPublicKey(publicKey)
	if err != nil {
		return nil, seal.Head{}, err
	}
	data, err := readAuditFile(file)
	if err != nil {
		return nil, seal.Head{}, err
	}
	p, err := trail.ParseProof(data)
	if err != nil {
		return nil, seal.Head{}, err
	}
	return p.Check(key)
}

// adviseAudit adds what to do to the refusal of a damaged audit log.
func adviseAudit(err error) error {
	if !errors.Is(err, trail.ErrDamaged) {
		return err
	}
	return advise(err, "kmsfs audit verify says what is wrong; bring the log back, or go on without it: kmsfs audit accept STREAM --reason TEXT")
}

// ConfigureAudit says where the audit log of a key store is, who else gets its events, and the file with the public key of the auditor to whom they are sealed ("": they are not), while no key daemon runs.
func ConfigureAudit(keyStore, auditDir string, sinks []string, auditorKey string) error {
	dir, err := keyStoreDir(keyStore)
	if err != nil {
		return err
	}
	if auditDir != "" {
		if auditDir, err = filepath.Abs(auditDir); err != nil {
			return err
		}
	}
	var to string
	if auditorKey != "" {
		text, err := readAuditFile(auditorKey)
		if err != nil {
			return err
		}
		key, err := auditor.ParsePublic(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", auditorKey, err)
		}
		to = key.String()
	}
	err = keystore.ConfigureAudit(dir, auditDir, sinks, to)
	if errors.Is(err, keystore.ErrInUse) {
		return advise(err, "kmsfs keystore lock ends the key daemon")
	}
	return err
}

// MakeAuditorKey draws an auditor's key, writes it to a new file for its owner alone, and gives the public one, which events can be sealed to.
func MakeAuditorKey(file string) (string, error) {
	key, err := auditor.NewKey()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	text := append(key.Text(), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file))
	}
	return key.Public().String(), nil
}

// AuditOpener opens events that are sealed to an auditor, with the secret key in a file; nil without one.
func AuditOpener(file string) (*auditor.Opener, error) {
	if file == "" {
		return nil, nil
	}
	text, err := readAuditFile(file)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := auditor.ParseSecret(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return auditor.NewOpener(key), nil
}
