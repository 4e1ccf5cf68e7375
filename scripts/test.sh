#!/bin/sh
# Every test: installs what is missing, then go vet and go test. What is absent afterwards is a failure, not a skip (KMSFS_REQUIRE).
# KMSFS_LONG=1 runs the long forms, KMSFS_RACE=1 the short ones under the race detector.
set -eu
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/local/go/bin:/usr/sbin:/sbin"
export PATH
scripts/test-deps.sh

KMSFS_REQUIRE=1
GOFLAGS="${GOFLAGS:-} -buildvcs=false"
export KMSFS_REQUIRE GOFLAGS

timeout=30m
flags=
if [ "${KMSFS_LONG:-}" = 1 ]; then timeout=6h; fi
if [ "${KMSFS_RACE:-}" = 1 ]; then
	CGO_ENABLED=1
	export CGO_ENABLED
	flags="-race"
fi

go vet ./...
# Packages one after another: many of them mount, fsync and measure time limits, and the machine may have two processors.
# shellcheck disable=SC2086 # flags may be empty
go test ./... -count=1 -p 1 -timeout "$timeout" $flags

# The long form runs what mounts over the second transport as well; the kernel's switch is put back.
switch=/sys/module/fuse/parameters/enable_uring
if [ "${KMSFS_LONG:-}" = 1 ] && [ -w "$switch" ]; then
	before=$(cat "$switch")
	trap 'echo "$before" >"$switch"' EXIT
	KMSFS_LONG='' KMSFS_TEST_TRANSPORT=io_uring go test ./fs ./fs/posix ./mount/... ./cmd/... -count=1 -p 1 -timeout "$timeout"
fi
