// Package dirpolicy reads the policy of a directory: the YAML that a person writes, into the parameters of its zone and statements of package policy.
//
// It does not know volumes, callers or keys: names of users and groups are asked about through Resolver, names of CMKs are handed on as they are written.
// Reading is strict: an unknown member, a member that stands twice, an anchor, a second document, a statement that can never match are refused with the line,
// the column and the reason (*policy.Error). docs/POLICY.md is its description for people; its example is a test of this package.
//
// A Policy does not change and may be used by any number of goroutines.
package dirpolicy
