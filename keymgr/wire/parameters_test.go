package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestParameters: what may be written down of a request is, under CloudTrail's names, and nothing else.
func TestParameters(t *testing.T) {
	n := 32
	for _, c := range []struct {
		in   any
		want string
	}{
		{&KeyRequest{KeyId: "k"}, `{"keyId":"k"}`},
		{&CreateKeyRequest{Description: "anything", Tags: []Tag{{TagKey: "a", TagValue: "b"}}, KmsfsAlias: "alias/x"}, `{"kmsfsAlias":"alias/x","tags":[{"TagKey":"a","TagValue":"b"}]}`},
		{&UpdateKeyDescriptionRequest{KeyId: "k", Description: "anything"}, `{"keyId":"k"}`},
		{&RetireGrantRequest{GrantToken: "t", KeyId: "k"}, `{"keyId":"k"}`},
		{&CreateGrantRequest{KeyId: "k", GrantTokens: []string{"t"}}, `{"keyId":"k"}`},
		{&EncryptRequest{KeyId: "k", Plaintext: Secret("p")}, `{"keyId":"k"}`},
		{&DecryptRequest{CiphertextBlob: []byte("c"), GrantTokens: []string{"t"}, KeyId: "k"}, `{"keyId":"k"}`},
		{&ImportKeyMaterialRequest{KeyId: "k", ImportToken: []byte("t"), EncryptedKeyMaterial: []byte("m")}, `{"keyId":"k"}`},
		{&BreakGlassRequest{Secrets: Secret("s"), Reason: "fire"}, `{"reason":"fire"}`},
		{&UnlockRequest{Secret: Secret("s")}, `null`},
		{&GenerateRandomRequest{NumberOfBytes: &n}, `{"numberOfBytes":32}`},
		{&struct{ Nested struct{ Blob [4]byte } }{struct{ Blob [4]byte }{[4]byte{1}}}, `null`},
		{&struct{ List map[string][]byte }{map[string][]byte{"a": {1}}}, `null`},
		{&struct{}{}, `null`},
	} {
		got, err := json.Marshal(Parameters(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%T: %s, want %s, %v", c.in, got, c.want, err)
		}
	}
	if got := Parameters(&KeyRequest{KeyId: strings.Repeat("k", maxParameters)}); !reflect.DeepEqual(got, map[string]any{"omitted": "98316 bytes"}) {
		t.Errorf("of a long request: %v", len(got))
	}
}
