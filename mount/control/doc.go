// Package control is the socket over which a file daemon is asked things: its state, the identity of a file, a check of the volume, its end.
//
// It carries requests and answers and knows nothing of what they mean. One connection is one request: a line of JSON, at most 64 KiB, names an
// operation and its arguments; the answer is any number of lines with events and then one line with the result or the failure. Failures travel as
// a class and a text, which the caller's package gives a meaning.
//
// Both ends check who the other is by SO_PEERCRED: the server answers its own user and root, the client believes its own user and root. The socket
// has mode 0600 in a directory that only its owner can write. A Server serves any number of connections at once; Call is safe for concurrent use.
package control
