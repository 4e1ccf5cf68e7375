package worker

import (
	"context"
	"fmt"

	"github.com/kmsfs/kmsfs/hsm"
)

var _ hsm.Noter = (*Client)(nil)

// Note implements hsm.Noter.
func (c *Client) Note(ctx context.Context, id hsm.KeyID) ([]byte, error) {
	rep, _, err := c.call(ctx, &request{Op: opNote, Key: id}, nil, twice)
	if err != nil {
		return nil, err
	}
	if len(rep.Note) > hsm.MaxNote {
		return nil, errReply
	}
	return rep.Note, nil
}

// PutNote implements hsm.Noter. To put the same note twice is harmless, so it is repeated when the worker dies meanwhile.
func (c *Client) PutNote(ctx context.Context, id hsm.KeyID, note []byte) error {
	if err := hsm.CheckNote(note); err != nil {
		return fmt.Errorf("put note %s: %w", id, err)
	}
	_, _, err := c.call(ctx, &request{Op: opPutNote, Key: id, Message: note}, nil, twice)
	return err
}

// callNoter does what a request asks of a token that keeps notes.
func (s *server) callNoter(ctx context.Context, req *request, rep *reply) (err error) {
	noter, ok := s.token.(hsm.Noter)
	if !ok {
		return fmt.Errorf("note %s: %w: it keeps no notes", req.Key, hsm.ErrUnfit)
	}
	if req.Op == opPutNote {
		return noter.PutNote(ctx, req.Key, req.Message)
	}
	rep.Note, err = noter.Note(ctx, req.Key)
	return err
}
