// Package conformance holds a running key daemon to AWS KMS with AWS' own clients: tests only. One is Debian's awscli, unmodified, in a process of its own that runs
// many commands (driver.py), because starting it takes longer than all else. The other is aws-sdk-go-v2, for what that command line does not know.
package conformance
