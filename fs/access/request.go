package access

import (
	"fmt"

	"github.com/kmsfs/kmsfs/meta"
)

// Action is what a request asks for, as policies of directories name it.
type Action uint8

// The actions.
const (
	List Action = iota + 1
	Read
	Write
	Create
	Delete
	Rename
	SetAttr
	Admin
	// Lookup is List in policies, asked for by lookups, stat and the like in zones with metadata: strict.
	Lookup
)

var actionNames = [...]string{List: "List", Read: "Read", Write: "Write", Create: "Create", Delete: "Delete", Rename: "Rename", SetAttr: "SetAttr", Admin: "Admin", Lookup: "List"}

// String is the name in policies, without its prefix.
func (a Action) String() string {
	if a < List || a > Lookup {
		return fmt.Sprintf("action %d", uint8(a))
	}
	return actionNames[a]
}

var qualifiedNames = [...]string{List: "kmsfs:List", Read: "kmsfs:Read", Write: "kmsfs:Write", Create: "kmsfs:Create", Delete: "kmsfs:Delete", Rename: "kmsfs:Rename", SetAttr: "kmsfs:SetAttr",
	Admin: "kmsfs:Admin", Lookup: "kmsfs:List"}

// qualified is the name in policies, with its prefix.
func (a Action) qualified() string { return qualifiedNames[a] }

// ParseAction is the inverse of String; the prefix kmsfs: may be there. ErrAction.
func ParseAction(name string) (Action, error) {
	for a := List; a <= Admin; a++ {
		if fold(name) == fold(a.String()) || fold(name) == "kmsfs:"+fold(a.String()) {
			return a, nil
		}
	}
	return 0, fmt.Errorf("%q: %w", name, ErrAction)
}

var contentRights = []string{"kms:Decrypt", "kms:GenerateDataKey"}

// keyRights are the rights at the zone's key that an action needs besides: what adds contents makes keys, the rest uses them. They are shared.
func (a Action) keyRights() []string {
	switch a {
	case Write, Create:
		return contentRights
	case Admin:
		return nil
	}
	return contentRights[:1:1]
}

// Requester is who asks, as the kernel says it. PID is that of a thread, 0 if it is not one that this process can see.
type Requester struct{ UID, GID, PID uint32 }

// Target is what a request is about: an inode, or a name in a directory that may not be there yet. Zone is the inode's, or the directory's.
type Target struct {
	Zone meta.ZoneID
	Ino  meta.Ino
	Dir  meta.Ino // with Name: instead of Ino, which is then what the name leads to, for the record, where that is known
	Name []byte

	Move *Move // that the request is part of; nil: none
}

// Move is a rename.
type Move struct {
	FromDir, ToDir   meta.Ino
	FromName, ToName []byte
	Exchange         bool
}
