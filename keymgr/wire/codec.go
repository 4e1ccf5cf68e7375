package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/kmsfs/kmsfs/keymgr"
)

// Secret is a member whose bytes are not left lying in encoders' and decoders' buffers: it is base64 in JSON, like []byte. A body has one at most, tagged
// `json:"-"` and `secret:"Name"`. The receiver wipes it.
type Secret []byte

// Decode reads a body into dst, a pointer to a struct, strictly (see the package comment). An empty body is an empty object. Fields of struct type are read in the same way. A Secret
// in dst is memory of its own; dst holds no other reference to body. Error: keymgr.ErrSerialization.
func Decode(body []byte, dst any) error {
	if len(body) == 0 {
		return nil
	}
	members, err := object(body)
	if err != nil {
		return &keymgr.Fault{Class: keymgr.ErrSerialization, Message: err.Error()}
	}
	return assign(members, reflect.ValueOf(dst).Elem())
}

func assign(members []member, dst reflect.Value) error {
	for i := range dst.NumField() {
		name := fieldName(dst.Type().Field(i))
		m := named(members, name)
		if m == nil || bytes.Equal(m.raw, []byte("null")) {
			continue
		}
		if err := assignField(m.raw, dst.Field(i)); err != nil {
			return &keymgr.Fault{Class: keymgr.ErrSerialization, Message: fmt.Sprintf("member %s has the wrong type", name)}
		}
	}
	return nil
}

func assignField(raw []byte, field reflect.Value) error {
	switch dst := field.Addr().Interface().(type) {
	case *Secret:
		return dst.decode(raw)
	case *[]byte:
		return (*Secret)(dst).decode(raw)
	case *string:
		s, err := textOf(raw)
		*dst = s
		return err
	case *map[string]string:
		return assignPairs(raw, dst)
	case json.Unmarshaler:
		return dst.UnmarshalJSON(raw)
	}
	if field.Kind() == reflect.Struct {
		members, err := object(raw)
		if err != nil {
			return err
		}
		return assign(members, field)
	}
	return json.Unmarshal(raw, field.Addr().Interface())
}

// assignPairs reads an object of texts; null is "", as encoding/json has it.
func assignPairs(raw []byte, dst *map[string]string) error {
	if raw[0] != '{' {
		return errSyntax
	}
	s := scanner{rest: raw}
	members, err := s.object()
	if err != nil {
		return err
	}
	out := make(map[string]string, len(members))
	for _, m := range members {
		text := ""
		if !bytes.Equal(m.raw, []byte("null")) {
			if text, err = textOf(m.raw); err != nil {
				return err
			}
		}
		out[string(m.name)] = text
	}
	*dst = out
	return nil
}

// fieldName is the member that a field stands for: its name, unless a tag says another.
func fieldName(f reflect.StructField) string {
	if name, ok := f.Tag.Lookup("secret"); ok {
		return name
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return f.Name
	}
	return name
}

func (s *Secret) decode(raw []byte) error {
	if len(raw) < 2 || raw[0] != '"' {
		return errSyntax
	}
	if bytes.IndexByte(raw, '\\') >= 0 { // an escaped slash
		return json.Unmarshal(raw, (*[]byte)(s))
	}
	text := raw[1 : len(raw)-1]
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		clear(out)
		return err
	}
	*s = out[:n]
	return nil
}

// Encode returns the body for v, a struct or a pointer to one; nil gives no bytes. The caller wipes the body if it holds a secret.
func Encode(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	name, secret := secretOf(reflect.Indirect(reflect.ValueOf(v)))
	if secret == nil {
		return body, nil
	}
	out := make([]byte, 0, len(body)+len(name)+6+base64.StdEncoding.EncodedLen(len(secret)))
	out = append(out, body[:len(body)-1]...) // without the brace
	if len(body) > 2 {
		out = append(out, ',')
	}
	out = append(append(append(out, '"'), name...), `":"`...)
	out = base64.StdEncoding.AppendEncode(out, secret)
	return append(out, `"}`...), nil
}

func secretOf(v reflect.Value) (name string, secret Secret) {
	if v.Kind() != reflect.Struct {
		return "", nil
	}
	for i := range v.NumField() {
		if f := v.Field(i); f.Type() == reflect.TypeFor[Secret]() {
			return fieldName(v.Type().Field(i)), Secret(f.Bytes())
		}
	}
	return "", nil
}

// Wipe clears the secret of v, a pointer to a struct, if it has one.
func Wipe(v any) {
	if v == nil {
		return
	}
	_, s := secretOf(reflect.Indirect(reflect.ValueOf(v)))
	clear(s)
}
