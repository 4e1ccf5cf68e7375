// Package transfer copies a tree of files into another directory with all that a filesystem holds of them, compares the copy with the original, and can
// destroy the original afterwards.
//
// Three passes go over the tree. The first copies what is not there yet: data with its holes, owner, mode, times to the nanosecond, extended attributes
// and with them ACLs, hard links, symbolic links, device nodes, pipes and sockets. The second, when everything is durable, reads original and copy again,
// compares all of it, copies once more what differs and is its own work, and reports what could not be carried over. The third overwrites and removes
// what the second found equal.
//
// The copy is its own record of how far the work is: a file gets its name when it is complete, its modification time says which original it is of, and
// a large one that is not complete carries an attribute that says how much of it is durable. So a run that was ended at any point is gone on with by the
// same call. What is in the target and is not a copy of the source is left alone, unless Config.Update says otherwise.
//
// It works under the rights of its process, by descriptors of directories alone: below the two roots no symbolic link is followed and no mount point
// crossed, whoever changes the trees meanwhile. It does not know volumes, keys or daemons.
//
// A run is one goroutine; two at a time must not have the same target.
package transfer
