// Package audit measures what the audit log and policies cost: one file is opened and closed in a loop, on a volume without either, on one with the audit log at level access, and in a
// directory of that with a policy of 20 statements. Rounds alternate between the three, so that their ratios mean something on a machine that does other things, too. `make bench` runs it
// (KMSFS_BENCH=1). docs/BENCHMARKS.md has figures.
package audit
