package content

import "sort"

// span is the half-open range [first, end) of blocks.
type span struct{ first, end uint64 }

// ranges is a set of blocks as sorted spans that neither touch nor overlap. The zero value is empty.
type ranges []span

// add puts [first, end) into the set.
func (r *ranges) add(first, end uint64) {
	if first >= end {
		return
	}
	s := *r
	// i is the first span that ends at or behind first, j the first that begins behind end: those between are swallowed.
	i := sort.Search(len(s), func(i int) bool { return s[i].end >= first })
	j := sort.Search(len(s), func(j int) bool { return s[j].first > end })
	if i < j {
		first = min(first, s[i].first)
		end = max(end, s[j-1].end)
		s[i] = span{first, end}
		*r = append(s[:i+1], s[j:]...)
		return
	}
	s = append(s, span{})
	copy(s[i+1:], s[i:])
	s[i] = span{first, end}
	*r = s
}

// has tells whether block is in the set.
func (r ranges) has(block uint64) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i].end > block })
	return i < len(r) && r[i].first <= block
}

// outside returns the parts of [first, end) that are not in the set.
func (r ranges) outside(first, end uint64) (parts []span) {
	for i := sort.Search(len(r), func(i int) bool { return r[i].end > first }); first < end; i++ {
		if i == len(r) || r[i].first >= end {
			return append(parts, span{first, end})
		}
		if r[i].first > first {
			parts = append(parts, span{first, r[i].first})
		}
		first = r[i].end
	}
	return parts
}
