// Package e2e holds tests of the whole program: the binaries are built, volumes are made, mounted and used by real applications, killed, damaged and
// checked, through the command line alone. It has no code of its own.
//
// The tests keep everything (key stores, runtime directories, volumes) in temporary directories. They need /dev/fuse, some need programs that
// scripts/test-deps.sh installs; what is missing skips a test, or fails it when KMSFS_REQUIRE=1. KMSFS_LONG=1 runs the long forms.
package e2e
