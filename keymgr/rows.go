package keymgr

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/kmsfs/kmsfs/blockcrypt"
	"github.com/kmsfs/kmsfs/meta/kv"
)

// Row keys of the key store (docs/FORMAT.md, section 10): a letter and an id. Names stand in none of them.
const (
	rowInfo      = 'i' // alone: what this store is
	rowKey       = 'k' // UUID x[16]: a CMK
	rowMaterial  = 'm' // material x[32]: which CMK and version it belongs to
	rowUses      = 'u' // material x[32]: uses reserved
	rowAlias     = 'a' // tag x[16] of the name: an alias
	rowVolume    = 'v' // volume id x[16]: a volume
	rowAnchor    = 'n' // volume id x[16]: its anchor
	rowGrant     = 'g' // UUID x[16] grant id x[32]: a grant on a CMK
	rowGrantee   = 'e' // tag x[16] of the grantee, UUID x[16] grant id x[32]: finds the grant
	rowRetiring  = 'y' // tag x[16] of the retiring principal, UUID x[16] grant id x[32]: finds the grant
	rowIdentity  = 'o' // tag x[16] of the name: an identity
	rowUser      = 'b' // uid u32: the identity that a user of the host is mapped to
	rowAccessKey = 's' // tag x[16] of the access key id: whose it is
	rowPolicy    = 'p' // UUID x[16]: a CMK's policy
	rowTags      = 'q' // UUID x[16]: a CMK's tags
	rowDeletion  = 'd' // UUID x[16]: its deletion is scheduled
	rowRotation  = 'r' // UUID x[16]: it rotates by period
	rowExpiry    = 'z' // UUID x[16]: its key material expires
	rowRemains   = 'x' // UUID x[16]: what is left of a deleted CMK
	rowApproval  = 'f' // alone: who approves
	rowRequest   = 't' // request id x[16]: a change that waits for a second person
	rowEmergency = 'w' // alone: the secrets of break-glass
	rowAuditKey  = 'l' // alone: the key that seals audit logs
	rowAuditHead = 'h' // name of a stream: its anchored head

	rowGeneration = 'c' // alone: how often the key store has changed
	rowBackup     = 'j' // alone: its newest backup
)

const rowVersion = 1

// rows seals and opens the rows of one key store: version u8 || XAES-256-GCM(JSON), AAD = "kmsfs keystore row" || version u8 || key store id x[16] || row key.
type rows struct {
	id     [16]byte
	sealer *blockcrypt.Sealer
	names  *blockcrypt.NameHasher
}

func newRows(id [16]byte, storeKey *blockcrypt.Key) (*rows, error) {
	rowsKey, err := blockcrypt.DeriveKey(storeKey, "keystore rows", id[:])
	if err != nil {
		return nil, fmt.Errorf("derive rows key: %w", err)
	}
	defer rowsKey.Wipe()
	namesKey, err := blockcrypt.DeriveKey(storeKey, "keystore names", id[:])
	if err != nil {
		return nil, fmt.Errorf("derive names key: %w", err)
	}
	defer namesKey.Wipe()
	sealer, err := blockcrypt.NewSealer(rowsKey)
	if err != nil {
		return nil, fmt.Errorf("expand rows key: %w", err)
	}
	return &rows{id: id, sealer: sealer, names: blockcrypt.NewNameHasher(namesKey)}, nil
}

// key builds a row key.
func key(kind byte, id []byte) []byte { return append([]byte{kind}, id...) }

// kindRange is the half-open range of all rows of a kind.
func kindRange(kind byte) (lo, hi []byte) { return []byte{kind}, []byte{kind + 1} }

// aliasKey finds an alias without naming it. Tags collide with probability 2^-128 a pair; the row holds the name.
func (r *rows) aliasKey(name string) []byte {
	return r.tagged(rowAlias, name)
}

func (r *rows) aad(key []byte) []byte {
	aad := append([]byte("kmsfs keystore row"), rowVersion)
	aad = append(aad, r.id[:]...)
	return append(aad, key...)
}

// get reads one row into v; found is false if there is none.
func (r *rows) get(ctx context.Context, tx kv.Reader, key []byte, v any) (found bool, err error) {
	values, err := tx.Get(ctx, key)
	if err != nil {
		return false, fmt.Errorf("read key store row %x: %w", key, err)
	}
	if values[0] == nil {
		return false, nil
	}
	return true, r.open(key, values[0], v)
}

// put writes one row.
func (r *rows) put(tx kv.Txn, key []byte, v any) error {
	sealed, err := r.seal(key, v)
	if err != nil {
		return err
	}
	tx.Put(key, sealed)
	return nil
}

func (r *rows) seal(key []byte, v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode key store row %x: %w", key, err)
	}
	sealed, err := r.sealer.Seal([]byte{rowVersion}, plain, r.aad(key))
	if err != nil {
		return nil, fmt.Errorf("seal key store row %x: %w", key, err)
	}
	return sealed, nil
}

// open is the inverse of seal. Errors: errRow (shape), blockcrypt.ErrAuth.
func (r *rows) open(key, value []byte, v any) error {
	if len(value) == 0 || value[0] != rowVersion {
		return fmt.Errorf("open key store row %x: unknown version: %w", key, errRow)
	}
	plain, err := r.sealer.Open(nil, value[1:], r.aad(key))
	if err != nil {
		return fmt.Errorf("open key store row %x: %w", key, err)
	}
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decode key store row %x: %v: %w", key, err, errRow)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("decode key store row %x: more than one value: %w", key, errRow)
	}
	return nil
}
