#!/bin/sh
# Installs what the tests need and what is missing of it, on Debian and its relatives. Changes nothing when all is there.
set -eu

missing=
want() { # want COMMAND-OR-FILE PACKAGE...
	probe=$1
	shift
	case $probe in
	/*) [ -e "$probe" ] && return 0 ;;
	*) PATH="$PATH:/usr/sbin:/sbin" command -v "$probe" >/dev/null 2>&1 && return 0 ;;
	esac
	missing="$missing $*"
}

want git git
want gcc gcc libc6-dev
want /usr/include/stdlib.h libc6-dev
want softhsm2-util softhsm2
want pkcs11-tool opensc
want fusermount3 fuse3
want fio fio
want setfattr attr
want setfacl acl
want rsync rsync
want strace strace
want stress-ng stress-ng
want sqlite3 sqlite3
want mkfs.xfs xfsprogs
want python3 python3
want /usr/bin/aws awscli
want gocryptfs gocryptfs
want /usr/lib/postgresql/15/bin/postgres postgresql-15

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing, and there is no apt-get here; install by hand:$missing" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "missing, and neither root nor sudo here; as root: apt-get install$missing" >&2
		exit 1
	fi
	sudo=sudo
fi
echo "installing:$missing"
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to be split
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
