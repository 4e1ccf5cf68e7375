// Package soak holds a key daemon to a model while clients use keys that others disable, rotate, delete, grant and take away, and while the daemon and its token's worker are
// killed: tests only. What a client is answered must be right for some moment of its call. What changes is drawn from a seed; how calls interleave is the machine's, and the
// model is exact whatever it does.
package soak
