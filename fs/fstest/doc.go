// Package fstest mounts the real filesystem for tests: metadata on the journalled store or in memory, content, and fs, in the test's process, on a
// directory of the test's. Keys are random and there is no key manager. Every mount is gone when its test ends, whatever happened in it.
//
// A program that maps files of a mount must not run in the process that serves it: a page fault stops a thread that the runtime believes to be
// running, and the garbage collector then waits for ever. Such clients are children: Main makes the test binary its own client, Child starts it.
package fstest
