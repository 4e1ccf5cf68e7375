package wire

import "github.com/kmsfs/kmsfs/keymgr"

// AuthorizeRequest is the input of Authorize.
type AuthorizeRequest struct {
	Action            string
	KeyId             string
	EncryptionContext map[string]string `json:",omitempty"`
	GrantTokens       []string          `json:",omitempty" audit:"-"`
}

// AuthorizeResponse is the output of Authorize.
type AuthorizeResponse struct {
	Allowed bool
	Code    string `json:",omitempty"`
	Message string `json:",omitempty"`
	Reason  string `json:",omitempty"`
	KeyId   string `json:",omitempty"`
	Expires Time   `json:",omitzero"`
}

// FromAuthorization is a in the protocol.
func FromAuthorization(a keymgr.Authorization) AuthorizeResponse {
	return AuthorizeResponse{Allowed: a.Allowed, Code: a.Code, Message: a.Message, Reason: a.Reason, KeyId: a.KeyID, Expires: Time{a.Expires}}
}

// Authorization is the inverse.
func (r AuthorizeResponse) Authorization() keymgr.Authorization {
	return keymgr.Authorization{Allowed: r.Allowed, Code: r.Code, Message: r.Message, Reason: r.Reason, KeyID: r.KeyId, Expires: r.Expires.Time}
}

// WatchRequest is the input of Watch: until something differs from the epoch After, but at most WaitMillis.
type WatchRequest struct {
	After      uint64
	KeyIds     []string `json:",omitempty"`
	WaitMillis int
}

// WatchResponse is the output of Watch.
type WatchResponse struct {
	Epoch  uint64
	States map[string]string
}
