//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Noter = (*Token)(nil)

// noteLabel is the label of the data objects that hold notes; CKA_APPLICATION is the id in hexadecimal.
const noteLabel = "kmsfs-note"

// maxNotes bounds what is looked at for one id.
const maxNotes = 64

// noteObject is one data object.
type noteObject struct {
	handle p11.ObjectHandle
	value  []byte
}

// Note implements hsm.Noter.
func (t *Token) Note(ctx context.Context, id hsm.KeyID) ([]byte, error) {
	note, err := do(ctx, t, task[[]byte]{run: func(c *conn, s p11.SessionHandle) ([]byte, error) {
		found, err := t.notes(c, s, id)
		if err != nil || len(found) == 0 {
			return nil, err
		}
		return found[len(found)-1].value, nil
	}})
	return note, t.wrap("read note", id, err)
}

// PutNote implements hsm.Noter: a data object's value cannot be changed in every token (SoftHSM refuses), so a new one is made, and the others destroyed then.
func (t *Token) PutNote(ctx context.Context, id hsm.KeyID, note []byte) error {
	if err := hsm.CheckNote(note); err != nil {
		return t.wrap("put note", id, err)
	}
	note = slices.Clone(note)
	_, err := do(ctx, t, task[struct{}]{alone: true, run: func(c *conn, s p11.SessionHandle) (none struct{}, err error) {
		return none, t.putNote(c, s, id, note)
	}})
	return t.wrap("put note", id, err)
}

func (t *Token) putNote(c *conn, s p11.SessionHandle, id hsm.KeyID, note []byte) error {
	began := time.Now()
	old, err := t.notes(c, s, id)
	if err != nil {
		return err
	}
	there := slices.ContainsFunc(old, func(o noteObject) bool { return bytes.Equal(o.value, note) })
	if !there {
		if _, err := c.mod.ctx.CreateObject(s, append(noteTemplate(id), p11.NewAttribute(p11.CKA_MODIFIABLE, false), p11.NewAttribute(p11.CKA_VALUE, note))); err != nil {
			return fmt.Errorf("create a data object: %w", err)
		}
		if c.mod.soft {
			syncSoftHSM(began)
		}
	}
	for _, o := range old {
		if bytes.Equal(o.value, note) {
			continue
		}
		if err := c.mod.ctx.DestroyObject(s, o.handle); err != nil {
			return fmt.Errorf("destroy an old data object: %w", err)
		}
	}
	if c.mod.soft {
		syncSoftHSM(began)
	}
	return nil
}

func noteTemplate(id hsm.KeyID) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_DATA),
		p11.NewAttribute(p11.CKA_TOKEN, true),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_LABEL, noteLabel),
		p11.NewAttribute(p11.CKA_APPLICATION, id.String()),
	}
}

// notes are the notes of an id in the order of their bytes. None is an answer only if the sentinel is there: SoftHSM finds nothing when the token is away.
func (t *Token) notes(c *conn, s p11.SessionHandle, id hsm.KeyID) ([]noteObject, error) {
	if err := c.mod.ctx.FindObjectsInit(s, noteTemplate(id)); err != nil {
		return nil, fmt.Errorf("find data objects: %w", err)
	}
	handles, _, err := c.mod.ctx.FindObjects(s, maxNotes)
	if ferr := c.mod.ctx.FindObjectsFinal(s); err == nil {
		err = ferr
	}
	if err != nil {
		return nil, fmt.Errorf("find data objects: %w", err)
	}
	var found []noteObject
	for _, h := range handles {
		attrs, err := c.mod.ctx.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
		if err != nil {
			return nil, fmt.Errorf("read a data object: %w", err)
		}
		found = append(found, noteObject{h, attrs[0].Value})
	}
	if len(found) == 0 {
		if err := c.check(s, t.known); err != nil {
			return nil, fmt.Errorf("%w: no data object is found, nor does the sentinel answer: %w", errLost, err)
		}
		handles, err := c.search(s, sentinelID, sentinelLabel)
		if err == nil && len(handles) == 0 {
			err = fmt.Errorf("%w: neither a data object nor the sentinel is found", errLost)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b noteObject) int { return bytes.Compare(a.value, b.value) })
	return found, nil
}
