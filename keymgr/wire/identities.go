package wire

import "github.com/kmsfs/kmsfs/keymgr"

// The bodies of our operations on identities.

// CreateIdentityRequest is the input of CreateIdentity.
type CreateIdentityRequest struct {
	Name  string
	Admin bool   `json:",omitempty"`
	Role  string `json:",omitempty"`
}

// IdentityPolicyRequest is the input of PutIdentityPolicy, GetIdentityPolicy and DeleteIdentityPolicy.
type IdentityPolicyRequest struct {
	Name, PolicyName string
	Policy           string `json:",omitempty"`
}

// IdentityPolicyResponse is the output of GetIdentityPolicy.
type IdentityPolicyResponse struct{ Policy string }

// MapIdentityRequest is the input of MapIdentity and UnmapIdentity.
type MapIdentityRequest struct {
	Name string
	UID  uint32
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
	Role                   string   `json:",omitempty"`
	Policies               []string `json:",omitempty"`
	UIDs                   []uint32 `json:",omitempty"`
}

// ListIdentitiesResponse is the output of ListIdentities.
type ListIdentitiesResponse struct{ Identities []Identity }

// FromIdentities makes the wire's shape of a list of identities.
func FromIdentities(list []keymgr.Identity) ListIdentitiesResponse {
	out := ListIdentitiesResponse{Identities: []Identity{}}
	for _, i := range list {
		out.Identities = append(out.Identities, Identity{i.Name, i.ARN, i.AccessKeyID, i.Admin, i.Disabled, Time{i.Created}, i.Role, i.Policies, i.UIDs})
	}
	return out
}

// List is the inverse of FromIdentities.
func (r ListIdentitiesResponse) List() (list []keymgr.Identity) {
	for _, i := range r.Identities {
		list = append(list, keymgr.Identity{Name: i.Name, ARN: i.Arn, AccessKeyID: i.AccessKeyId, Admin: i.Admin, Disabled: i.Disabled, Created: i.CreationDate.Time,
			Role: i.Role, Policies: i.Policies, UIDs: i.UIDs})
	}
	return list
}
