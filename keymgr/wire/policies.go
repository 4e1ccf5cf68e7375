package wire

// The bodies of AWS' operations on key policies.

// PutKeyPolicyRequest is the input of PutKeyPolicy.
type PutKeyPolicyRequest struct {
	KeyId                          string
	PolicyName                     string `json:",omitempty"`
	Policy                         string
	BypassPolicyLockoutSafetyCheck bool `json:",omitempty"`
}

// GetKeyPolicyRequest is the input of GetKeyPolicy.
type GetKeyPolicyRequest struct {
	KeyId      string
	PolicyName string `json:",omitempty"`
}

// GetKeyPolicyResponse is the output of GetKeyPolicy.
type GetKeyPolicyResponse struct{ Policy, PolicyName string }

// ListKeyPoliciesResponse is the output of ListKeyPolicies, whose input is a ListRequest.
type ListKeyPoliciesResponse struct {
	PolicyNames []string
	Truncated   bool
}
