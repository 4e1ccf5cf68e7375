package soft

import (
	"github.com/kmsfs/kmsfs/blockcrypt/locked"
	"github.com/kmsfs/kmsfs/hsm"
)

// slotCount is how many keys are held in memory at once: 4 KiB, one page, of
// locked memory. More keys than that are read again from their files.
const slotCount = 128

// held is a key in memory.
type held struct {
	slot int
	info hsm.KeyInfo
}

// slots holds keys in one locked buffer. It is guarded by the Token's lock.
type slots struct {
	buf  *locked.Buffer
	free []int
	keys map[hsm.KeyID]held
}

func newSlots() (*slots, error) {
	buf, err := locked.New(slotCount * keySize)
	if err != nil {
		return nil, err
	}
	s := &slots{buf: buf, keys: make(map[hsm.KeyID]held)}
	for i := range slotCount {
		s.free = append(s.free, i)
	}
	return s, nil
}

// key is the memory of one slot.
func (s *slots) key(slot int) []byte {
	return s.buf.Bytes()[slot*keySize : (slot+1)*keySize : (slot+1)*keySize]
}

// take returns a slot that nobody uses, if need be by forgetting some key.
func (s *slots) take() int {
	if len(s.free) == 0 {
		for id := range s.keys {
			s.drop(id)
			break
		}
	}
	slot := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return slot
}

// give returns a slot that take gave and put did not use.
func (s *slots) give(slot int) {
	clear(s.key(slot))
	s.free = append(s.free, slot)
}

func (s *slots) put(slot int, info hsm.KeyInfo) { s.keys[info.ID] = held{slot, info} }

// drop wipes a key; nothing happens if it is not held.
func (s *slots) drop(id hsm.KeyID) {
	if h, ok := s.keys[id]; ok {
		delete(s.keys, id)
		s.give(h.slot)
	}
}

func (s *slots) close() {
	s.buf.Close()
	clear(s.keys)
}
