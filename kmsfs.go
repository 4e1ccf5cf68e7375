// Package kmsfs is the root of the kmsfs module: an encrypting filesystem whose keys live in an HSM. It holds no code; docs/ARCHITECTURE.md says
// where things live, and deps_test.go holds the packages to it.
package kmsfs
