package local

import (
	"bytes"
	"cmp"
)

// Rows of new things are looked for again and again before they are made, and where numbers only grow they lie behind all of their class that a checkpoint has brought in. So the
// table knows the last key of each class, which is a key's first byte: what is behind it is not in Badger, and nothing has to be read to know.

// beyond reports whether key is behind all rows of its class. The end of a class is found out when it is first asked for.
func (t *freshTable) beyond(b *base, key []byte) bool {
	end := t.ends[key[0]].Load()
	if end == nil {
		found, err := t.findEnd(b, key[0])
		if err != nil {
			found = []byte{key[0] + 1} // nothing is behind it: whoever reads the rows finds out what is wrong with them
		}
		end = &found
		t.ends[key[0]].Store(end)
	}
	return bytes.Compare(key, *end) > 0
}

// findEnd returns the last key of a class, or the class alone if it has none. The ranges it lies in are read for that, and held to their sums.
func (t *freshTable) findEnd(b *base, class byte) ([]byte, error) {
	lo, hi := []byte{class}, []byte{class + 1}
	if class == 0xff {
		hi = nil
	}
	last := lo
	for i := t.before(hi); i >= 0; i-- {
		spans, err := t.load(b, t.chunks[i])
		if err != nil {
			return nil, err
		}
		for j := spans.before(hi) - 1; j >= 0; j-- {
			var failed error
			err := t.checkRun(b, spans, j, j+1, t.end(i), func(k []byte) {
				if bytes.Compare(k, last) > 0 && precedes(k, hi) {
					last = bytes.Clone(k)
				}
			}, func(err error) { failed = err })
			if err = cmp.Or(failed, err); err != nil || len(last) > 1 || bytes.Compare(spans.start(j), lo) <= 0 {
				return last, err
			}
		}
	}
	return last, nil
}

// before returns the last chunk that starts before hi; nil is the end.
func (t *freshTable) before(hi []byte) int {
	i := len(t.chunks) - 1
	for i > 0 && !precedes(t.chunks[i].start, hi) {
		i--
	}
	return i
}

// keepEnds takes over what another table knows, before changes are raised.
func (t *freshTable) keepEnds(other *freshTable) {
	for class := range t.ends {
		t.ends[class].Store(other.ends[class].Load())
	}
}

// raise notes that a key is put. An end is never lowered: where rows go, it is behind the last one, and that is good enough.
func (t *freshTable) raise(key []byte) {
	if end := t.ends[key[0]].Load(); end != nil && bytes.Compare(key, *end) > 0 {
		own := bytes.Clone(key)
		t.ends[key[0]].Store(&own)
	}
}
