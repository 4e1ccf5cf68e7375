// Package interrupt holds tests of long work that is stopped: while keys are wrapped anew, files sealed anew, or a tree is imported, the daemon is killed, the power cut, the token
// taken away or the disk filled, again and again, and then all of it goes on, ends, and proves. There is nothing but tests.
package interrupt
