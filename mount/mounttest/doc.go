// Package mounttest is what tests of whole volumes share: the real programs, a volume with its key store and mount point (Rig), filesystems on loop
// devices whose power can be cut (Disk), namespaces of their own (Main), and what is done where something is missing (Need). It knows the commands of
// kmsfs and nothing of what is behind them.
//
// Everything ends the test that it was made for when it fails, so it is called from the test's goroutine, but for Rig.Command. What a test makes is
// taken away by its Cleanup.
package mounttest
