// Package policy is the policy language: what a document says, and what it decides about one request. It is the language of AWS' key policies, with this
// system's own principals (users and groups of the host) and condition keys.
//
// It does not know keys, grants, files, sockets or clocks: who asks, what for, and everything a condition may look at arrives in a Request, so that
// the same request always gets the same answer. Key policies, identity policies and the policies of directories are all read by it.
//
// Nouns:
//
//	document   a version, an id and one or more statements; parsed once, evaluated often
//	statement  Allow or Deny, for principals, actions, resources, under conditions
//	condition  an operator, a condition key, one or more values; all conditions of a statement must hold
//	principal  whom a statement names; Principal is who asks
//	decision   Allow, ExplicitDeny or ImplicitDeny, and the statement that made it
//
// An explicit Deny beats everything. What could not be determined (a group without a name, a program that could not be read) never allows and
// always denies: an Allow needs every one of its parts to hold, a Deny applies unless one of its parts does not.
//
// A Document does not change once it is parsed and may be used by any number of goroutines. docs/API.md, section "Key policies", says the same for users.
package policy
