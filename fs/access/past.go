package access

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/kmsfs/kmsfs/fs/identity"
	"github.com/kmsfs/kmsfs/keymgr/audit"
	"github.com/kmsfs/kmsfs/meta"
)

// pastRequest is a request that was decided, as the audit log has it.
type pastRequest struct {
	principal string // ARN
	uid, gid  uint32
	program   identity.Program // taken at its word
	action    Action
	path      string // that was decided about, from the volume's root; "": not known
	time      time.Time
}

// Which name a Rename was decided for, in an event's detail.
const (
	forOldName = "decided for the old name"
	forNewName = "decided for the new name"
)

// destinationZone is the parameter of a Rename that names the zone where the file went.
const destinationZone = "destinationZone"

// appendRequests appends what an event says was asked for in a zone: nothing, where it is no request about a file there; two requests for a file that left for another zone.
func appendRequests(out []pastRequest, e *audit.Event, id meta.ZoneID) []pastRequest {
	action, ok := actionOf(e)
	if !ok {
		return out
	}
	digest, _ := hex.DecodeString(e.ProgramSHA256)
	if len(digest) == 0 {
		digest = nil
	}
	r := pastRequest{principal: e.Principal, uid: uint32(e.UID), gid: uint32(e.GID), action: action, path: e.Path, time: e.Time,
		program: identity.Program{Path: e.Program, Claim: e.Program, Digest: digest}}
	to, carried := e.Parameters[destinationZone].(float64) // as JSON has it
	switch {
	case action == Rename && carried && meta.ZoneID(to) == id:
		r.action, r.path = Create, e.NewPath
	case e.Zone != uint64(id):
		return out
	case action == Rename && carried:
		out = append(out, r)
		r.action = Delete
	case action == Rename && strings.HasPrefix(e.Detail, forNewName):
		r.path = e.NewPath
	}
	return append(out, r)
}

// actionOf is the action that an event of a file is about; opens of files for writing say that they are not read-only.
func actionOf(e *audit.Event) (Action, bool) {
	switch {
	case e.Name == audit.Open && e.ReadOnly:
		return Read, true
	case e.Name == audit.Open:
		return Write, true
	}
	for a, name := range eventNames {
		if name == e.Name && name != "" {
			return Action(a), true
		}
	}
	return 0, false
}
