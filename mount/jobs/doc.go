// Package jobs does long work on a mounted volume in the background, one job at a time: it seals files anew under fresh keys.
//
// A job is a row of the volume (meta.Job), so that it goes on after a restart where it was; what it says is written at most a second, or one large
// file, behind. Jobs run under the rights of who submitted them, which are asked for at submission and whenever a job begins or goes on.
//
// It does not know how files are sealed, key managers, sockets, or who asks for what.
//
// A Runner is safe for concurrent use. Its lock is never held while a file is worked on or a key manager asked.
//
// Implements rows J of docs/FORMAT.md, section 7.
package jobs
