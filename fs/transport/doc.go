// Package transport carries FUSE requests between the kernel's device and a go-fuse RawFileSystem. The filesystem does not know which transport
// serves it, nor how a request arrived.
//
// Most of what a small FUSE operation costs is the wake-up of a sleeping daemon on another processor. Loop therefore polls the device for a short
// while before it sleeps, for as long as that pays. One reader at a time, the leader, takes requests from the device and handles them itself;
// it hands the lead over before a request that is known to take long (but an fsync, unless it was in somebody's way), and loses it if one takes long unexpectedly. So no request waits behind
// another, and a fast one costs no switch between threads.
//
// The protocol itself (parsing, capabilities, replies) is go-fuse's ProtocolServer. What that lacks is here: notifications, and interrupts for
// requests still under way when the mount ends.
package transport
