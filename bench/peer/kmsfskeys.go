package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// OwnKey makes the directory a zone, by a policy that says nothing else.
func (k *kmsfs) OwnKey(ctx context.Context, dir string) error {
	policy := filepath.Join(filepath.Dir(k.lower), "zone.yaml")
	if err := os.WriteFile(policy, []byte("version: 1\n"), 0o600); err != nil {
		return err
	}
	return run(ctx, k.bin, "policy", "set", dir, policy)
}

// keyEvent is what is used of an event of the audit log.
type keyEvent struct {
	Name string `json:"eventName"`
	Data struct {
		Class string `json:"class"`
	} `json:"additionalEventData"`
}

// tokenUses are the requests for which the key manager asks the token.
var tokenUses = map[string]bool{"Encrypt": true, "Decrypt": true, "ReEncrypt": true, "GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true}

// KeyCalls reads the audit log: the key manager records each request before
// it answers.
func (k *kmsfs) KeyCalls(ctx context.Context, since time.Time) (calls, token int, err error) {
	out, err := output(ctx, k.bin, "audit", "query", k.store[0], k.store[1], "--stream", "keyd", "--since", since.UTC().Format(time.RFC3339Nano), "--json")
	if err != nil {
		return 0, 0, err
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var e keyEvent
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return calls, token, nil
		} else if err != nil {
			return 0, 0, fmt.Errorf("kmsfs audit query: %w", err)
		}
		if e.Data.Class == "keyUse" {
			calls++
			if tokenUses[e.Name] {
				token++
			}
		}
	}
}
