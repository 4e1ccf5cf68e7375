// Package audit says what an audit event is, and how it is written down. Everything that decides about keys or files records its decisions as Events with a
// Recorder; package keymgr/audit/trail keeps them in a log that shows when it was changed.
//
// Nouns:
//
//	event     one decision or change: who, what, on what, how it was decided and by which rule, and how it went
//	class     what kind of event it is; how durable it must be, and what becomes of the operation when it cannot be written, follows from it
//	level     how much of what happens to files a zone wants in the log
//	recorder  takes events down; returns when they are as durable as their class demands
//
// An event is written as one line of JSON in CloudTrail's schema (docs/FORMAT.md, section 14): CloudTrail's members under CloudTrail's names, everything that CloudTrail
// does not know in additionalEventData. Events hold no key, plaintext, ciphertext or token. The package knows neither sockets nor disks. Recorders are
// safe for concurrent use; an Event belongs to its maker until it is recorded, and is not changed while it is.
package audit
