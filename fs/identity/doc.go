// Package identity finds out who is behind a request of the kernel: user, groups, program.
//
// The kernel gives a thread's number, and the user and group that it acts as. The thread waits for the answer without being killable meanwhile, so its number cannot
// be another's; all the same everything is read through one descriptor of its directory in /proc, and the user must be the one the kernel named. Groups are those
// that the thread has now. A program counts only where its path leads to the same device and inode in this process' own view of the files: /proc/PID/exe of a
// process in a mount namespace of its own says what its owner wants.
//
// What cannot be found out is said to be unknown, and never guessed: package policy lets it allow nothing. Names come from this host's files; those of a directory service
// are not seen by a static program. A program that lies on the mount that is being served is never looked at: answering would need the answer.
//
// A Resolver is safe for concurrent use.
package identity
