package worker

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Importer = (*Client)(nil)

// ImportKey implements hsm.Importer. When the worker dies meanwhile it is not repeated: hsm.ErrTokenAway, and FindKey tells what came of it.
func (c *Client) ImportKey(ctx context.Context, id hsm.KeyID, label string, key []byte) (hsm.KeyInfo, error) {
	if err := hsm.CheckImport(label, key); err != nil {
		return hsm.KeyInfo{}, fmt.Errorf("import key %s: %w", id, err)
	}
	rep, _, err := c.call(ctx, &request{Op: opImport, Key: id, Label: label}, key, once)
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	return rep.key(id)
}

// callImport does what a request asks of a token that takes keys from outside.
func (s *server) callImport(ctx context.Context, req *request, secret []byte, rep *reply) error {
	importer, ok := s.token.(hsm.Importer)
	if !ok {
		return fmt.Errorf("import key %s: %w: it takes no keys from outside", req.Key, hsm.ErrUnfit)
	}
	info, err := importer.ImportKey(ctx, req.Key, req.Label, secret)
	rep.Key = &info
	return err
}
