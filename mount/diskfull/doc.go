// Package diskfull holds tests of volumes whose disk is full, fails, is read-only or gone: the volume lies on a loop-mounted filesystem, the real
// daemon serves it, and what programs were told is durable is compared with what is there afterwards. There is nothing but tests.
package diskfull
