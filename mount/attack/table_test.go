package attack

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAttackTable has one case for each row of the attack table, each against copies of the same volumes.
func TestAttackTable(t *testing.T) {
	r := newRig(t)
	p := &props{rig: r}
	for p.closed == nil || !aloneInItsDirectory(t, p.closed, threeSize) { // names of objects are random
		p.closed = r.volume(t, 0)
	}
	p.other = r.volume(t, 0)
	p.large = r.volume(t, 200)
	p.killed = r.killed(t, p.closed, true)
	for _, row := range []struct {
		name string
		run  func(t *testing.T, p *props)
	}{
		{"A1 blocks swapped inside a file", attackA1},
		{"A2 blocks swapped between files", attackA2},
		{"A3 object cut", attackA3},
		{"A4 object extended by what was cut off", attackA4},
		{"A5 older version of a block", attackA5},
		{"A6 older version of an object", attackA6},
		{"A7 older metadata, older volume", attackA7},
		{"A8 names and rows swapped and moved", attackA8},
		{"A9 two names for one object", attackA9},
		{"A10 object deleted or emptied", attackA10},
		{"A11 holes forged", attackA11},
		{"A12 all that describes a file moved to another", attackA12},
		{"A13 wrapped keys swapped and added", attackA13},
		{"A14 keys of the attacker", attackA14},
		{"A15 policy put back", attackA15},
		{"A16 grants put back", attackA16},
		{"A17 key-use log cut", attackA17},
		{"A18 older format", attackA18},
		{"A19 clones of a snapshot", attackA19},
		{"A20 mode, owner, times of the lower files", attackA20},
		{"A21 files and rows that never were", attackA21},
		{"A22 traffic analysis", attackA22},
		{"A23 hostile lower directory", attackA23},
		{"A24 two volumes mixed", attackA24},
		{"A25 malformed files and rows", attackA25},
		{"rows removed", attackRemovedRows},
		{"rows of an older time", attackOlderRows},
		{"list of tables cut", attackListCut},
		{"two daemons", attackTwoDaemons},
	} {
		t.Run(row.name, func(t *testing.T) { row.run(t, p) })
	}
}

// props are the volumes that every case copies.
type props struct {
	*rig
	closed *saved // closed
	large  *saved // the same with many more files, so that rows have neighbours and strangers
	killed *saved // the same, whose process died later, with a journal that the key store knows
	other  *saved // another one of the same key store
}

// aloneInItsDirectory tells whether no other object lies beside the one of a length.
func aloneInItsDirectory(t *testing.T, s *saved, size int) bool {
	t.Helper()
	object := (&scene{t: t, dir: s.Dir, s: s}).object(size)
	beside, err := os.ReadDir(filepath.Dir(object))
	if err != nil {
		t.Fatal(err)
	}
	return len(beside) == 1
}
