package wire

import "github.com/kmsfs/kmsfs/keymgr"

// The bodies of AWS' operations on grants. KmsfsExpires is ours.

// GrantConstraints narrow a grant.
type GrantConstraints struct {
	EncryptionContextEquals map[string]string `json:",omitempty"`
	EncryptionContextSubset map[string]string `json:",omitempty"`
}

// CreateGrantRequest is the input of CreateGrant.
type CreateGrantRequest struct {
	KeyId             string
	GranteePrincipal  string
	RetiringPrincipal string `json:",omitempty"`
	Operations        []string
	Constraints       GrantConstraints `json:",omitzero"`
	GrantTokens       []string         `json:",omitempty" audit:"-"`
	Name              string           `json:",omitempty"`
	DryRun            bool             `json:",omitempty"`
	KmsfsExpires      Time             `json:",omitzero"`
}

// CreateGrantResponse is the output of CreateGrant.
type CreateGrantResponse struct{ GrantToken, GrantId string }

// ListGrantsRequest is the input of ListGrants, and with a RetiringPrincipal alone of ListRetirableGrants.
type ListGrantsRequest struct {
	KeyId             string `json:",omitempty"`
	GrantId           string `json:",omitempty"`
	GranteePrincipal  string `json:",omitempty"`
	RetiringPrincipal string `json:",omitempty"`
	Limit             int    `json:",omitempty"`
	Marker            string `json:",omitempty"`
}

// ListGrantsResponse is the output of ListGrants and ListRetirableGrants.
type ListGrantsResponse struct {
	Grants     []Grant
	Truncated  bool
	NextMarker string `json:",omitempty"`
}

// Grant is a line of ListGrants.
type Grant struct {
	KeyId             string
	GrantId           string
	Name              string
	CreationDate      Time
	GranteePrincipal  string
	RetiringPrincipal string `json:",omitempty"`
	IssuingAccount    string
	Operations        []string
	Constraints       GrantConstraints `json:",omitzero"`
	KmsfsExpires      Time             `json:",omitzero"`
}

// IsZero says that there are no constraints.
func (c GrantConstraints) IsZero() bool {
	return len(c.EncryptionContextEquals) == 0 && len(c.EncryptionContextSubset) == 0
}

// RetireGrantRequest is the input of RetireGrant.
type RetireGrantRequest struct {
	GrantToken string `json:",omitempty" audit:"-"`
	KeyId      string `json:",omitempty"`
	GrantId    string `json:",omitempty"`
	DryRun     bool   `json:",omitempty"`
}

// RevokeGrantRequest is the input of RevokeGrant.
type RevokeGrantRequest struct {
	KeyId, GrantId string
	DryRun         bool `json:",omitempty"`
}

// FromGrants makes AWS' shape of a list of grants.
func FromGrants(l keymgr.GrantList) ListGrantsResponse {
	out := ListGrantsResponse{Grants: []Grant{}, Truncated: l.NextMarker != "", NextMarker: l.NextMarker}
	for _, g := range l.Grants {
		out.Grants = append(out.Grants, Grant{KeyId: g.KeyID, GrantId: g.ID, Name: g.Name, CreationDate: Time{g.Created}, GranteePrincipal: g.Grantee,
			RetiringPrincipal: g.Retiring, IssuingAccount: g.Issuer, Operations: g.Operations, KmsfsExpires: Time{g.Expires},
			Constraints: GrantConstraints{EncryptionContextEquals: g.Constraints.Equals, EncryptionContextSubset: g.Constraints.Subset}})
	}
	return out
}

// List is the inverse of FromGrants.
func (r ListGrantsResponse) List() keymgr.GrantList {
	out := keymgr.GrantList{NextMarker: r.NextMarker}
	for _, g := range r.Grants {
		out.Grants = append(out.Grants, keymgr.Grant{KeyID: g.KeyId, ID: g.GrantId, Name: g.Name, Created: g.CreationDate.Time, Grantee: g.GranteePrincipal,
			Retiring: g.RetiringPrincipal, Issuer: g.IssuingAccount, Operations: g.Operations, Expires: g.KmsfsExpires.Time,
			Constraints: keymgr.GrantConstraints{Equals: g.Constraints.EncryptionContextEquals, Subset: g.Constraints.EncryptionContextSubset}})
	}
	return out
}
