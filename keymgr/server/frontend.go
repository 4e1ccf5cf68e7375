package server

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsfs/kmsfs/hsm/awake"
	"github.com/kmsfs/kmsfs/keymgr"
	"github.com/kmsfs/kmsfs/keymgr/wire"
)

// claim is what a connection says to be a front end by.
type claim struct{ proof []byte } // nil: the right kmsfs:FrontEnd

const (
	frontEndWait = 4 * time.Second // for the connections of a volume's former front end to go
	frontEndPoll = 20 * time.Millisecond
)

// registerVolume says for which volume a connection is there, for good, and takes its claim to be the volume's front end. It works while the key store is locked, so
// that a mount need not connect anew: the claim is then looked at when it is needed.
func registerVolume(ctx context.Context, s *server, r *request) (any, error) {
	var in wire.RegisterVolumeRequest
	if err := wire.Decode(r.body, &in); err != nil {
		return nil, err
	}
	id, err := wire.ParseVolumeID(in.VolumeId)
	if err != nil {
		return nil, err
	}
	if !r.session.volume.CompareAndSwap(nil, &id) && *r.session.volume.Load() != id {
		return nil, &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "this connection is registered for another volume"}
	}
	if len(in.Proof) > 0 || in.ByRight {
		r.session.claim.CompareAndSwap(nil, &claim{proof: in.Proof})
		if s.store.Load() != nil {
			err = s.proveFrontEnd(ctx, r.session, r.by)
		}
	}
	return &wire.RegisterVolumeResponse{Challenge: r.session.challenge}, err
}

// proveFrontEnd is nil if the connection may forward requests for its volume; by is its peer. The claim is examined once and recorded.
func (s *server) proveFrontEnd(ctx context.Context, sess *session, by keymgr.Caller) error {
	if sess.proven.Load() {
		return nil
	}
	c, volume := sess.claim.Load(), sess.volume.Load()
	if c == nil || volume == nil {
		return &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: "this is for the registered front end of a volume alone"}
	}
	m, err := s.manager()
	if err != nil {
		return err
	}
	if err := m.CheckFrontEnd(ctx, by, *volume, sess.challenge, c.proof); err != nil {
		return err
	}
	return s.holdVolume(ctx, sess)
}

// holdVolume makes the connection one of the process that serves its volume. There is one such process: another has to be gone, whatever it could prove.
func (s *server) holdVolume(ctx context.Context, sess *session) error {
	ctx, cancel := awake.WithTimeout(ctx, frontEndWait)
	defer cancel()
	for {
		holder := s.tryHold(sess)
		if holder == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return &keymgr.Fault{Class: keymgr.ErrAccessDenied, Message: fmt.Sprintf("process %d is the front end of volume %s", holder.peer.pid, sess.volume.Load())}
		case <-time.After(frontEndPoll):
		}
	}
}

// tryHold returns the connection of another process that holds the volume of sess, or nil: sess holds it, too.
func (s *server) tryHold(sess *session) (holder *session) {
	volume := sess.volume.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for other := range s.mu.sessions {
		if v := other.volume.Load(); other.proven.Load() && *v == *volume && other.peer.pid != sess.peer.pid {
			return other
		}
	}
	sess.proven.Store(true)
	return nil
}
