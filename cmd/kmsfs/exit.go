package main

import (
	"fmt"

	"github.com/kmsfs/kmsfs/mount"
)

// exit is one line of the table of exit codes.
type exit struct {
	code  int
	class mount.Class
	when  string
	next  string // what to do, where the error itself does not say
}

// exits is the one table of exit codes. docs/CLI.md prints it, and a test compares the two. Codes never change their meaning.
var exits = []exit{
	{1, mount.ClassOther, "anything that has no code of its own", ""},
	{2, mount.ClassUsage, "the command line is wrong", ""},
	{3, mount.ClassNotVolume, "the directory holds no volume", "kmsfs init DIRECTORY makes one"},
	{4, mount.ClassDamaged, "kmsfs.json, the key store or metadata is damaged, or was changed by somebody without the keys",
		"kmsfs fsck says what is wrong; for a damaged kmsfs.json, kmsfs fsck --repair VOLUME writes it anew from the key store's copy"},
	{5, mount.ClassUnsupported, "the volume has a version or feature that this program does not know", "use a later kmsfs"},
	{6, mount.ClassInUse, "another process has the volume", "kmsfs status shows who; kmsfs umount ends it"},
	{7, mount.ClassMountPoint, "the mount point is not there, not an empty directory, or lies where it must not", ""},
	{8, mount.ClassNotMounted, "no kmsfs mount there", "kmsfs status lists the mounts"},
	{9, mount.ClassBusy, "programs still use the mount", "end what has files or its working directory there (fuser -vm MOUNTPOINT), then try again"},
	{10, mount.ClassNoFUSE, "FUSE is not available", "apt-get install fuse3, and see that /dev/fuse is there and may be opened"},
	{11, mount.ClassNoSecret, "the key store needs its secret and none was given", "use a terminal, or --passphrase-file, --key-file or --pin-file"},
	{12, mount.ClassWrongSecret, "wrong passphrase, key file or PIN", "check it; for a PKCS#11 token, count the tries: tokens lock their PIN"},
	{13, mount.ClassLocked, "the key store is locked", "kmsfs keystore unlock"},
	{14, mount.ClassKeyAway, "the key manager or the token does not answer", "try again when it is back; kmsfs keystore status says what is missing"},
	{15, mount.ClassKeyRefused, "the key is disabled, or may not be used so", "kmsfs key describe KEY says its state; kmsfs key enable KEY"},
	{16, mount.ClassNotFound, "no such key, alias or volume in the key store", "kmsfs key list, alias list and identity list show what there is; --keystore names another key store"},
	{17, mount.ClassExists, "it exists already, or the directory is not empty", ""},
	{18, mount.ClassRollback, "the volume is older than the key store knows, or has another history",
		"bring back the latest copy of the volume; after a wanted restore, mount once with --accept-restore"},
	{19, mount.ClassFaults, "fsck found faults, audit verify did, or not everything could be done", ""},
	{20, mount.ClassNoSpace, "no space left", "free some space; nothing was lost"},
	{21, mount.ClassPermission, "not permitted for this user", "run it as the user to whom it belongs, or as root"},
	{22, mount.ClassPolicy, "the policy is malformed, or would lock its author out", "docs/POLICY.md has an example; nothing was changed"},
	{23, mount.ClassApproval, "the change waits for a second person, and is not made yet", "kmsfs approval show ID; an approver: kmsfs approval approve ID --identity FILE"},
	{130, mount.ClassInterrupted, "interrupted", ""},
}

// exitCode returns the code for an error, 0 for none.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	return exitFor(err).code
}

func exitFor(err error) exit {
	class := mount.ClassOf(err)
	for _, e := range exits {
		if e.class == class {
			return e
		}
	}
	return exits[0]
}

// explain prints an error of a command as everybody gets to see it: the cause, and what to do next.
func (io stdio) explain(command string, err error) {
	fmt.Fprintf(io.err, "kmsfs: %v\n", err)
	next, e := mount.NextOf(err), exitFor(err)
	switch {
	case next != "":
	case e.class == mount.ClassUsage:
		next = command + " --help says what it takes"
	default:
		next = e.next
	}
	if next != "" {
		fmt.Fprintf(io.err, "       %s\n", next)
	}
}
