package local

import "sort"

// liveSet counts the snapshots in use by sequence, so that the overlay knows which versions may be dropped.
// Sequences are added in ascending order. The zero value is empty. Guarded by Store.mu.
type liveSet struct {
	items []liveItem // ascending; the first and the last have n > 0
	used  int        // items with n > 0
}

type liveItem struct {
	seq uint64
	n   int
}

func (l *liveSet) add(seq uint64) {
	if last := len(l.items) - 1; last >= 0 && l.items[last].seq == seq {
		l.items[last].n++
		return
	}
	l.items = append(l.items, liveItem{seq, 1})
	l.used++
}

func (l *liveSet) remove(seq uint64) {
	i := sort.Search(len(l.items), func(i int) bool { return l.items[i].seq >= seq })
	if l.items[i].n--; l.items[i].n > 0 {
		return
	}
	l.used--
	for n := len(l.items); n > 0 && l.items[n-1].n == 0; n = len(l.items) {
		l.items = l.items[:n-1]
	}
	for len(l.items) > 0 && l.items[0].n == 0 {
		l.items = l.items[1:]
	}
	if len(l.items) > 2*l.used+32 {
		l.compact()
	}
}

// compact drops the unused items in the middle.
func (l *liveSet) compact() {
	kept := make([]liveItem, 0, 2*l.used)
	for _, it := range l.items {
		if it.n > 0 {
			kept = append(kept, it)
		}
	}
	l.items = kept
}

// oldest returns the sequence of the oldest snapshot in use, or otherwise if there is none.
func (l *liveSet) oldest(otherwise uint64) uint64 {
	if len(l.items) == 0 {
		return otherwise
	}
	return l.items[0].seq
}
