// Package attack holds tests alone: what somebody can do to a volume who has its lower directory and no keys.
//
// Each test makes a volume, changes its files behind its back (objects, Badger's files, journal segments, kmsfs.json, older copies of any of them),
// opens it as a mount does, but in this process, and reads everything. The outcome must be the data that was written, EIO, or a refused mount; never
// other data, a panic or a hang. TestAttackTable has one case for each row of the attack table in docs/THREATMODEL.md; TestMutations makes random
// changes in child processes, because a process that ends is an outcome as well.
//
// What is not detected is asserted too, so that a test fails when that changes, and THREATMODEL.md with it.
package attack
