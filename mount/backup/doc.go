// Package backup copies a volume, which may be in use, into a directory, and says what of it has changed since the last time.
//
//	rows of the last copy ──┐
//	                        ├─ differ ──> blocks that are new ──> objects of the target, or the pack
//	rows of a checkpoint ───┘
//
// A pass copies what differs between two checkpoints while the volume goes on; blocks that are overwritten meanwhile belong to the next pass. The last
// one, over little, is made while checkpoints, and with them settling and every destruction, are held back. The copy becomes the new one by the rename of
// its manifest; blocks that replace some of the copy before it wait in the pack until then, and are put in place after it.
//
// It needs the keys that the volume key gives (rows, object names, journal), and none of a zone: contents and names stay sealed. It knows rows and objects,
// not FUSE and not the key manager. docs/FORMAT.md, section 13.
package backup
