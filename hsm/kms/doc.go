// Package kms is a token whose keys are customer master keys of another key manager: AWS KMS, or the key daemon of another host, by AWS' protocol.
//
// Each key of the token is a key there, under an alias made of its id. What the AAD says (names, volumes) does not leave this host: the encryption context there is one pair, a keyed
// hash of the AAD. The other key manager decides whether this host may use its keys, by the identity whose access key opens the token; who of this host's users may do what is decided here,
// before it is asked. It does not know what the keys are for; a key daemon is told for which user it is asked, where it is to be (hsm.User), in a header that is signed with the request.
//
// A destroyed key is scheduled for deletion there, after the shortest window there is; its alias goes at once. docs/FORMAT.md section 10 has the names.
package kms
