#!/bin/sh
# Runs each fuzz target of each package for FUZZTIME.
set -eu
cd "$(dirname "$0")/.."
GOFLAGS="${GOFLAGS:-} -buildvcs=false"
export GOFLAGS
for pkg in $(go list ./...); do
	for target in $(go test "$pkg" -list '^Fuzz' | grep '^Fuzz' || true); do
		echo "== $pkg $target"
		go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}"
	done
done
