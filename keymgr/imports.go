package keymgr

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/hsm"
	"github.com/kmsfs/kmsfs/keymgr/policy"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Origins of key material.
const (
	OriginToken    = "AWS_KMS"  // generated in the token
	OriginExternal = "EXTERNAL" // imported
)

// Expiration models of imported material.
const (
	Expires      = "KEY_MATERIAL_EXPIRES"
	DoesntExpire = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// importRecord is the material of a key whose origin is EXTERNAL.
type importRecord struct {
	Present bool      `json:"present"` // INVARIANT: unless the key waits for its deletion, it is PendingImport if and only if this is false
	ValidTo time.Time `json:"validTo,omitzero"`
}

// at is the key as it is now: one whose material has expired waits for new one, whether Observe has taken the old away or not.
func (k *cmk) at(now time.Time) *cmk {
	i := k.record.Import
	if i == nil || !i.Present || i.ValidTo.IsZero() || i.ValidTo.After(now) {
		return k
	}
	out := *k
	out.record.Import = &importRecord{}
	if out.record.State != StatePendingDeletion {
		out.record.State = StatePendingImport
	}
	return &out
}

// ImportParameters are what key material is wrapped by for ImportKeyMaterial.
type ImportParameters struct {
	KeyID     string // ARN
	Token     []byte
	PublicKey []byte // PKIX, DER
	ValidTo   time.Time
}

// GetParametersForImport makes a wrapping key for the material of a key (id or ARN) whose origin is EXTERNAL. They are good for 24 hours, and any number of them may be about.
// Errors: ErrValidation, ErrUnsupported (origin, algorithm, or the token takes no keys), ErrNotFound, ErrInvalidState, ErrAccessDenied, those that are ErrKeyUnavailable.
func (m *Manager) GetParametersForImport(ctx context.Context, by Caller, keyID, algorithm, spec string) (ImportParameters, error) {
	u := &Use{Operation: "GetParametersForImport", Key: printable(keyID), Detail: printable(algorithm + " " + spec)}
	k, err := m.admitted(ctx, by, u, ask{key: keyID, bad: checkWrapping(algorithm, spec), conditions: func(c *policy.Context) {
		c.Text("kms:WrappingAlgorithm", algorithm)
		c.Text("kms:WrappingKeySpec", spec)
	}})
	if err == nil {
		_, err = m.importer(ctx)
	}
	if err == nil {
		u.Decision = Allow
	}
	if err = m.record(ctx, by, u, err); err != nil {
		return ImportParameters{}, err
	}
	select { // one at a time: it takes a processor
	case m.wrapping <- struct{}{}:
		defer func() { <-m.wrapping }()
	case <-ctx.Done():
		return ImportParameters{}, ctx.Err()
	}
	out := ImportParameters{KeyID: k.id.ARN(), ValidTo: m.now().UTC().Add(importWindow).Truncate(time.Second)}
	out.PublicKey, out.Token, err = m.imports.make(k.id, algorithm, wrapBits[spec], out.ValidTo)
	return out, err
}

func checkWrapping(algorithm, spec string) error {
	if _, ok := wrapBits[spec]; !ok {
		return fault(ErrValidation, "1 validation error detected: Value at 'wrappingKeySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096]")
	}
	if _, ok := wrapHash(algorithm); !ok {
		return fault(ErrUnsupported, "WrappingAlgorithm can only be %s or %s", WrapOAEPSHA256, WrapOAEPSHA1)
	}
	return nil
}

// importer is the token, if it takes keys from outside. ErrUnsupported, those of tokenFault.
func (m *Manager) importer(ctx context.Context) (hsm.Importer, error) {
	info, err := m.token.Info(ctx)
	if err != nil {
		return nil, tokenFault(err, "")
	}
	importer, ok := m.token.(hsm.Importer)
	if !ok || !info.Imports {
		return nil, fault(ErrUnsupported, "the token takes no keys from outside")
	}
	return importer, nil
}

// ImportInput is key material (32 bytes) as ImportParameters wrapped it. Model "" is Expires, which needs ValidTo.
type ImportInput struct {
	KeyID      string // id or ARN
	Token      []byte
	Encrypted  []byte
	Model      string
	ValidTo    time.Time
	MaterialID string // "", or the material that must be the one imported before
	Type       string // "", NEW_KEY_MATERIAL (the key's first) or EXISTING_KEY_MATERIAL
}

// Values of ImportInput.Type.
const (
	importNew      = "NEW_KEY_MATERIAL"
	importExisting = "EXISTING_KEY_MATERIAL"
)

// Imported is what an import or its end was about.
type Imported struct {
	KeyID      string // ARN
	MaterialID string
}

// check is what is wrong with the request by itself.
func (in ImportInput) check(now time.Time) error {
	for name, b := range map[string][]byte{"importToken": in.Token, "encryptedKeyMaterial": in.Encrypted} {
		if len(b) < 1 || len(b) > MaxImport {
			return fault(ErrValidation, "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length between 1 and %d", name, MaxImport)
		}
	}
	switch in.Type {
	case "", importNew, importExisting:
	default:
		return fault(ErrValidation, "1 validation error detected: Value at 'importType' failed to satisfy constraint: Member must satisfy enum value set: [NEW_KEY_MATERIAL, EXISTING_KEY_MATERIAL]")
	}
	switch in.Model {
	case "", Expires:
		switch {
		case in.ValidTo.IsZero():
			return fault(ErrValidation, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
		case !in.ValidTo.After(now), in.ValidTo.After(now.Add(maxValidity)):
			return fault(ErrValidation, "ValidTo must lie in the future, and no more than 365 days ahead")
		}
	case DoesntExpire:
		if !in.ValidTo.IsZero() {
			return fault(ErrValidation, "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
		}
	default:
		return fault(ErrValidation, "1 validation error detected: Value at 'expirationModel' failed to satisfy constraint: Member must satisfy enum value set: [KEY_MATERIAL_EXPIRES, KEY_MATERIAL_DOES_NOT_EXPIRE]")
	}
	return nil
}

// ImportKeyMaterial gives a key of origin EXTERNAL its material, which it had before if it had any: the same material opens the same blobs, and another one would make them look
// damaged. The key is enabled then. Errors: ErrValidation, ErrUnsupported, ErrNotFound, ErrInvalidState, ErrAccessDenied, ErrInvalidImportToken, ErrExpiredImportToken,
// ErrInvalidCiphertext (not wrapped by the token's key), ErrIncorrectMaterial, those that are ErrKeyUnavailable.
func (m *Manager) ImportKeyMaterial(ctx context.Context, by Caller, in ImportInput) (Imported, error) {
	u := &Use{Operation: "ImportKeyMaterial", Key: printable(in.KeyID), Alert: true, Detail: "does not expire"}
	if !in.ValidTo.IsZero() {
		u.Detail = "expires " + in.ValidTo.UTC().Format(time.RFC3339)
	}
	job := importJob{m: m, in: in}
	defer job.material.Wipe()
	err := m.perform(ctx, by, change{use: u, check: func() (func(kv.Txn) error, error) {
		if err := job.check(ctx, by, u); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return job.store(ctx, tx) }, nil
	}, prepare: func() (undo func(), err error) { return job.put(ctx) }})
	if err != nil {
		return Imported{}, err
	}
	return Imported{KeyID: job.key.id.ARN(), MaterialID: job.version.Material}, nil
}

// importJob is one ImportKeyMaterial under way.
type importJob struct {
	m        *Manager
	in       ImportInput
	key      *cmk
	material blockcrypt.Key
	version  versionRecord // as it will be
}

// check decides, and opens the material.
func (j *importJob) check(ctx context.Context, by Caller, u *Use) (err error) {
	m, in := j.m, j.in
	j.key, err = m.admitted(ctx, by, u, ask{key: in.KeyID, bad: in.check(m.now()), conditions: func(c *policy.Context) {
		model := in.Model
		if model == "" {
			model = Expires
		}
		c.Text("kms:ExpirationModel", model)
		if in.Model == "" {
			c.Defaulted("kms:ExpirationModel")
		}
		if !in.ValidTo.IsZero() {
			c.Number("kms:ValidTo", in.ValidTo.Unix())
		}
	}})
	if err != nil {
		return err
	}
	if _, err = m.importer(ctx); err != nil {
		return err
	}
	token, err := m.imports.read(in.Token)
	switch {
	case err != nil:
		return err
	case token.key != j.key.id:
		return fault(ErrInvalidImportToken, "The import token is that of another key")
	case !token.validTo.After(m.now()):
		return fault(ErrExpiredImportToken, "The import token has expired; get new parameters")
	}
	return j.open(token)
}

// open unwraps the material and compares it with what was imported before.
func (j *importJob) open(token importToken) error {
	raw, err := token.unwrap(j.in.Encrypted)
	defer clear(raw)
	if err != nil {
		return err
	}
	if len(raw) != hsm.KeySize {
		return fault(ErrIncorrectMaterial, "The key material has %d bytes instead of %d", len(raw), hsm.KeySize)
	}
	copy(j.material[:], raw)
	commitment := blockcrypt.KeyCommitment(&j.material, "imported material", j.key.id[:])
	if len(j.key.versions) == 0 {
		if j.in.MaterialID != "" || j.in.Type == importExisting {
			return fault(ErrIncorrectMaterial, "The key has had no key material yet")
		}
		var id materialID
		if id, err = newMaterialID(); err != nil {
			return err
		}
		j.version = versionRecord{Number: 1, Material: id.String(), Created: j.m.now().UTC(), Commitment: hex.EncodeToString(commitment[:])}
		return nil
	}
	j.version = j.key.record.Versions[0]
	switch {
	case j.in.Type == importNew:
		return fault(ErrUnsupported, "a key whose origin is EXTERNAL has one key material here")
	case j.in.MaterialID != "" && j.in.MaterialID != j.version.Material, j.version.Commitment != hex.EncodeToString(commitment[:]):
		return fault(ErrIncorrectMaterial, "The key material is not the one that was imported into this key before")
	}
	return nil
}

// put brings the material into the token, unless it is there.
func (j *importJob) put(ctx context.Context) (undo func(), err error) {
	m := j.m
	if i := j.key.record.Import; i != nil && i.Present {
		_, err := m.token.FindKey(ctx, j.key.current().tokenKey)
		if !errors.Is(err, hsm.ErrKeyNotFound) {
			return func() {}, tokenFault(err, j.key.id.ARN())
		}
	}
	importer, err := m.importer(ctx)
	if err != nil {
		return nil, err
	}
	if v := j.key.current(); v != nil { // expired, and not taken away yet
		if err := m.token.DestroyKey(ctx, v.tokenKey); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
			return nil, tokenFault(fmt.Errorf("destroy backing key: %w", err), j.key.id.ARN())
		}
	}
	id := hsm.NewKeyID()
	info, err := importer.ImportKey(ctx, id, fmt.Sprintf("%s v%d imported", j.key.id.ARN(), j.version.Number), j.material[:])
	if err != nil {
		return nil, tokenFault(fmt.Errorf("import backing key: %w", err), j.key.id.ARN())
	}
	j.version.TokenKey, j.version.Check = id.String(), hex.EncodeToString(info.CheckValue)
	return func() { _ = m.token.DestroyKey(context.WithoutCancel(ctx), id) }, nil
}

// store writes what has changed.
func (j *importJob) store(ctx context.Context, tx kv.Txn) error {
	m, id := j.m, j.key.id
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Versions = []versionRecord{j.version}
	rec.Import = &importRecord{Present: true, ValidTo: j.in.ValidTo.UTC()}
	if k = k.at(m.now()); k.record.State == StatePendingImport {
		rec.State = StateEnabled
	}
	if _, err := newCMK(id, rec); err != nil {
		return err
	}
	material, err := parseMaterial(j.version.Material)
	if err != nil {
		return err
	}
	if err := m.rows.put(tx, key(rowMaterial, material[:]), materialRecord{Key: id.String(), Version: 1}); err != nil {
		return err
	}
	if err := m.putExpiry(tx, id, rec.Import.ValidTo); err != nil {
		return err
	}
	return m.rows.put(tx, key(rowKey, id[:]), rec)
}

// putExpiry notes whether Observe has to look at the key's material.
func (m *Manager) putExpiry(tx kv.Txn, id keyUUID, validTo time.Time) error {
	if validTo.IsZero() {
		tx.Delete(key(rowExpiry, id[:]))
		return nil
	}
	return m.rows.put(tx, key(rowExpiry, id[:]), struct{}{})
}

// DeleteImportedKeyMaterial takes the material of a key (id or ARN) of origin EXTERNAL away; whoever has it can import it again. It does nothing where there is none. Errors:
// ErrUnsupported (origin), ErrNotFound, ErrAccessDenied, those that are ErrKeyUnavailable.
func (m *Manager) DeleteImportedKeyMaterial(ctx context.Context, by Caller, keyID string) (Imported, error) {
	u := &Use{Operation: "DeleteImportedKeyMaterial", Key: printable(keyID)}
	return m.dropMaterial(ctx, by, u, func() (*cmk, error) { return m.admitted(ctx, by, u, ask{key: keyID}) })
}

// expireMaterial takes away material whose time is over.
func (m *Manager) expireMaterial(ctx context.Context, by Caller, id keyUUID) error {
	expired := func() (k *cmk, over bool, err error) {
		err = m.view(ctx, func(r kv.Reader) (err error) { k, err = m.loadKey(ctx, r, id); return err })
		return k, err == nil && k.at(m.now()) != k, err
	}
	if _, over, err := expired(); err != nil || !over {
		return err
	}
	u := &Use{Operation: "DeleteExpiredKeyMaterial", Key: id.ARN()}
	_, err := m.dropMaterial(ctx, by, u, func() (*cmk, error) {
		k, over, err := expired()
		if err == nil && !over {
			err = fault(ErrInvalidState, "the key material of %s has not expired.", id.ARN())
		}
		return k, err
	})
	return err
}

// dropMaterial destroys the backing key of the key that find returns. It is destroyed before that is written down: what is interrupted in between is a key that has lost its backing key, and
// the same call again ends it.
func (m *Manager) dropMaterial(ctx context.Context, by Caller, u *Use, find func() (*cmk, error)) (out Imported, err error) {
	var k *cmk
	err = m.perform(ctx, by, change{use: u, check: func() (_ func(kv.Txn) error, err error) {
		if k, err = find(); err != nil {
			return nil, err
		}
		return func(tx kv.Txn) error { return m.storeWithout(ctx, tx, k.id) }, nil
	}, prepare: func() (undo func(), err error) {
		out.KeyID = k.id.ARN()
		v := k.current()
		if v == nil {
			return func() {}, nil
		}
		out.MaterialID = v.material.String()
		if err := m.token.DestroyKey(ctx, v.tokenKey); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
			return nil, tokenFault(fmt.Errorf("destroy backing key: %w", err), k.id.ARN())
		}
		return func() {}, nil
	}})
	if err != nil {
		return Imported{}, err
	}
	return out, nil
}

// storeWithout writes that a key has no material.
func (m *Manager) storeWithout(ctx context.Context, tx kv.Txn, id keyUUID) error {
	k, err := m.loadKey(ctx, tx, id)
	if err != nil {
		return err
	}
	rec := k.record
	rec.Import = &importRecord{}
	if rec.State != StatePendingDeletion {
		rec.State = StatePendingImport
	}
	tx.Delete(key(rowExpiry, id[:]))
	return m.rows.put(tx, key(rowKey, id[:]), rec)
}
