package wire

import "github.com/kmsfs/kmsfs/keymgr"

// The bodies of our operations on identities.

// CreateIdentityRequest is the input of CreateIdentity.
type CreateIdentityRequest struct {
	Name  string
	Admin bool `json:",omitempty"`
}

// IdentityRequest is the input of operations that take an identity alone.
type IdentityRequest struct{ Name string }

// IdentityKeyResponse is the output of CreateIdentity and RotateIdentityKey.
type IdentityKeyResponse struct{ Arn, AccessKeyId, SecretAccessKey string }

// Identity is a line of ListIdentities.
type Identity struct {
	Name, Arn, AccessKeyId string
	Admin, Disabled        bool
	CreationDate           Time
}

// ListIdentitiesResponse is the output of ListIdentities.
type ListIdentitiesResponse struct{ Identities []Identity }

// FromIdentities makes the wire's shape of a list of identities.
func FromIdentities(list []keymgr.Identity) ListIdentitiesResponse {
	out := ListIdentitiesResponse{Identities: []Identity{}}
	for _, i := range list {
		out.Identities = append(out.Identities, Identity{i.Name, i.ARN, i.AccessKeyID, i.Admin, i.Disabled, Time{i.Created}})
	}
	return out
}

// List is the inverse of FromIdentities.
func (r ListIdentitiesResponse) List() (list []keymgr.Identity) {
	for _, i := range r.Identities {
		list = append(list, keymgr.Identity{Name: i.Name, ARN: i.Arn, AccessKeyID: i.AccessKeyId, Admin: i.Admin, Disabled: i.Disabled, Created: i.CreationDate.Time})
	}
	return list
}
