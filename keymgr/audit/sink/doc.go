// Package sink delivers audit events to other places than the log on disk: syslog, systemd's journal, an HTTP collector.
//
// It knows how to deliver, and neither queues nor decides what becomes of an operation while a place does not answer: package trail does. Every attempt is bounded by its context.
// A Target is used by one goroutine.
package sink
