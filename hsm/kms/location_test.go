package kms

import (
	"errors"
	"testing"

	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

func TestLocations(t *testing.T) {
	for s, want := range map[string]Location{
		"aws-kms://eu-central-1":                               {Region: "eu-central-1"},
		"aws-kms://eu-central-1?endpoint=https://vpce.example": {Region: "eu-central-1", Endpoint: "https://vpce.example"},
		"aws-kms://local?endpoint=http://127.0.0.1:8200":       {Region: "local", Endpoint: "http://127.0.0.1:8200"},
		"kmsfs://keys.example:8443":                            {Region: "local", Endpoint: "https://keys.example:8443"},
		"kmsfs://[::1]:8443":                                   {Region: "local", Endpoint: "http://[::1]:8443"},
		"kmsfs://127.0.0.1:8443":                               {Region: "local", Endpoint: "http://127.0.0.1:8443"},
		"kmsfs://127.0.0.1:8443?forward=users":                 {Region: "local", Endpoint: "http://127.0.0.1:8443", Forward: true},
	} {
		if got, err := ParseLocation(s); err != nil || got != want {
			t.Errorf("%s: %+v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "local", "aws-kms://", "kmsfs://keys.example", "https://keys.example:1", "kmsfs://a:b@keys.example:1", "kmsfs://keys.example:1/path", "kmsfs://keys.example:1?forward=no", "kmsfs://keys.example:1?x=y",
		"aws-kms://x?endpoint=http://keys.example", "aws-kms://x?endpoint=ftp://127.0.0.1", "aws-kms://x?endpoint=keys"} {
		if got, err := ParseLocation(s); !errors.Is(err, hsm.ErrModule) {
			t.Errorf("%q: %+v %v", s, got, err)
		}
	}
}

// TestSecrets: an access key as both programs print it, and what is none.
func TestSecrets(t *testing.T) {
	for s, ok := range map[string]bool{
		`{"Arn":"a","AccessKeyId":"i","SecretAccessKey":"s"}`:                    true,
		`{"AccessKey":{"UserName":"u","AccessKeyId":"i","SecretAccessKey":"s"}}`: true,
		`{"AccessKeyId":"i"}`: false, `{"AccessKey":{}}`: false, "i s": false, `[]`: false,
	} {
		got, err := parseSecret([]byte(s))
		if (err == nil) != ok || ok && (got.AccessKeyID != "i" || got.SecretAccessKey != "s") || !ok && !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// TestNobodyThere: a key manager that does not answer is away, and opens later.
func TestNobodyThere(t *testing.T) {
	secret, err := locked.FromBytes([]byte(`{"AccessKeyId":"i","SecretAccessKey":"s"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	cfg := Config{Location: Location{Region: "local", Endpoint: "http://127.0.0.1:1"}, Secret: secret, Binding: make([]byte, BindingSize)}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, hsm.ErrTokenAway) {
		t.Error(err)
	}
	cfg.Binding = nil
	if _, err := Open(t.Context(), cfg); !errors.Is(err, hsm.ErrModule) {
		t.Error(err)
	}
}
