// Package conformance holds a running key daemon to AWS KMS with AWS' own command line: tests only. The command line is Debian's awscli, unmodified, in a
// process of its own that runs many commands (driver.py), because starting it takes longer than all else.
package conformance
