#!/bin/sh
# The demonstration volume: everything under demo/ of the working directory. `demo.sh start` makes what is missing and mounts it, `demo.sh stop` ends it.
set -eu
cd "$(dirname "$0")/.."
demo=$PWD/demo
kmsfs=$PWD/bin/kmsfs

mounted() { awk -v p="$(printf %s "$demo/mnt" | sed 's/ /\\040/g')" '$5 == p && / - fuse\.kmsfs / { found = 1 } END { exit !found }' /proc/self/mountinfo; }

start() {
	if [ ! -c /dev/fuse ]; then
		echo "/dev/fuse is not there: load the fuse module (modprobe fuse), or give this container the device" >&2
		exit 1
	fi
	if [ "$(id -u)" != 0 ]; then
		if ! command -v fusermount3 >/dev/null 2>&1 && ! command -v fusermount >/dev/null 2>&1; then
			echo "mounting as a user needs fusermount3: sudo apt-get install fuse3" >&2
			exit 1
		fi
		if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
			echo "this user may not open /dev/fuse: sudo chmod 666 /dev/fuse, or run as root" >&2
			exit 1
		fi
	fi
	mkdir -p -m 0700 "$demo"
	# What is copied into the mount must not count as packages of this module.
	[ -e "$demo/go.mod" ] || echo "module demo" >"$demo/go.mod"
	mkdir -p "$demo/mnt" 2>/dev/null || true # a dead mount answers with an error; mount removes it
	if [ ! -e "$demo/volume/kmsfs.json" ]; then
		"$kmsfs" init "$demo/volume" --keystore "$demo/keystore" --key-file "$demo/key" >/dev/null
		echo "made an encrypted volume and a key store, opened by the key file demo/key (mode 0600, outside the volume)"
	fi
	if mounted && "$kmsfs" status "$demo/mnt" >/dev/null 2>&1 && ls "$demo/mnt" >/dev/null 2>&1; then
		echo "demo/mnt is mounted already"
	else
		"$kmsfs" mount "$demo/volume" "$demo/mnt" --keystore "$demo/keystore" --key-file "$demo/key"
	fi
	cat <<TXT

  demo/mnt        the mount: use it like any directory
  demo/volume     what is on disk: only ciphertext (try: grep -r something demo/volume)
  demo/keystore   the key store: embedded, not an HSM; the audit log is in demo/keystore/audit
  demo/key        the key file that opens the key store; keep it apart from the volume

try:   cp -a /usr/share/doc demo/mnt/ && ls -l demo/mnt
       bin/kmsfs info demo/mnt/doc        which keys protect it
       bin/kmsfs status                   what is mounted, and how it is
       bin/kmsfs fsck demo/mnt            check every row and block
       bin/kmsfs audit tail --keystore demo/keystore   who did what
stop:  make stop
TXT
}

stop() {
	if mounted; then
		"$kmsfs" umount "$demo/mnt"
		echo "demo/mnt is unmounted"
	else
		echo "demo/mnt is not mounted"
	fi
	if [ -e "$demo/keystore/keystore.json" ]; then
		"$kmsfs" keystore lock --keystore "$demo/keystore"
	fi
}

case ${1:-} in
start) start ;;
stop) stop ;;
*)
	echo "usage: $0 start|stop" >&2
	exit 2
	;;
esac
