// Package kms measures the key manager: GenerateDataKey and Decrypt by eight clients over the socket, with policies and the audit log on, beside an empty handler on the same kind
// of socket and beside C_Encrypt of the same SoftHSM in one process. Rounds alternate between them, so that the ratios mean something on a machine that does other things, too.
// `make bench` runs it (KMSFS_BENCH=1); it is a test because it needs parts that commands do not show. docs/BENCHMARKS.md has figures.
package kms
