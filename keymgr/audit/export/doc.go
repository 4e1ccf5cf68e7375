// Package export writes audit events in the forms that other systems read: JSON lines, CEF, and CloudTrail's log files with their chain of signed digest files, as AWS' own
// validator (aws cloudtrail validate-logs) checks them.
//
// It gets events from package trail and knows nothing of where they lie. A Writer is used by one goroutine.
package export
