package wire

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// maxParameters bounds what a record says of a request's parameters, in bytes of JSON: a key policy fits.
const maxParameters = 96 << 10

// Parameters returns what the audit log says of a request, a pointer to a struct of this package: its members under CloudTrail's names. What holds bytes (plaintext, ciphertext, key material) is
// never in it, nor is a member tagged `audit:"-"` (tokens of grants; descriptions, which may hold anything). Of a request that is too long there is only its length.
func Parameters(in any) map[string]any {
	v := reflect.Indirect(reflect.ValueOf(in))
	out := map[string]any{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("audit") == "-" || f.Tag.Get("json") == "-" || holdsBytes(f.Type) || v.Field(i).IsZero() {
			continue
		}
		out[lowerCamel(fieldName(f))] = v.Field(i).Interface()
	}
	if len(out) == 0 {
		return nil
	}
	data, err := json.Marshal(out)
	if err != nil || len(data) > maxParameters {
		return map[string]any{"omitted": strconv.Itoa(len(data)) + " bytes"}
	}
	return out
}

// holdsBytes says of a type that something in it is bytes.
func holdsBytes(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return t.Elem().Kind() == reflect.Uint8 || holdsBytes(t.Elem())
	case reflect.Pointer:
		return holdsBytes(t.Elem())
	case reflect.Map:
		return holdsBytes(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && holdsBytes(f.Type) {
				return true
			}
		}
	}
	return false
}

func lowerCamel(name string) string {
	if name == "" || name[0] < 'A' || name[0] > 'Z' {
		return name
	}
	return string(name[0]+'a'-'A') + name[1:]
}
