package trail

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/kmsfs/kmsfs/keymgr/audit"
)

// formSlots are the places for forms in a spool: two for each of a Forms' places, so that a form can be written while frames that are not done need the one before it.
type formSlots struct {
	slots  [formSlotCount]formSlot
	number uint64 // of the newest form
}

type formSlot struct {
	form   *audit.Form
	number uint64 // of form; 0: none
	last   uint64 // logical end of the last frame that needs it
}

const (
	formSlotCount = 2 * audit.MaxForms
	formSlotSize  = 2 << 10
	formSlotHead  = 16 // length u32, CRC-32C u32 of what follows, number u64
)

// slotOf is where a number's form is: a new one's number is chosen so.
func slotOf(number uint64) int { return int(number % formSlotCount) }

// of is the form of a number that a frame has which is not done; nil if it is not there.
func (f *formSlots) of(number uint64) *audit.Form {
	if slot := &f.slots[slotOf(number)]; slot.number == number {
		return slot.form
	}
	return nil
}

// used notes that a frame ending at end needs a form.
func (f *formSlots) used(number, end uint64) { f.slots[slotOf(number)].last = end }

// load reads what is there.
func (f *formSlots) load(area []byte) {
	for i := range f.slots {
		p := area[i*formSlotSize : (i+1)*formSlotSize]
		n, number := binary.BigEndian.Uint32(p), binary.BigEndian.Uint64(p[8:])
		if n > formSlotSize-formSlotHead || number == 0 || slotOf(number) != i || crc32.Checksum(p[8:formSlotHead+n], castagnoli) != binary.BigEndian.Uint32(p[4:]) {
			continue
		}
		form, err := audit.ParseForm(p[formSlotHead : formSlotHead+n])
		if err != nil {
			continue
		}
		f.slots[i].form, f.slots[i].number = form, number
		f.number = max(f.number, number)
	}
}

// keep has every slot keep what is in it until the log has all up to end.
func (f *formSlots) keep(end uint64) {
	for i := range f.slots {
		f.slots[i].last = end
	}
}

// formNumber gives the number of a form that is in the spool, and puts it there if it is not; 0 if it does not fit, or frames that are not done need what is in its places.
func (s *spool) formNumber(form *audit.Form) uint64 {
	f := &s.forms
	place := form.Place()
	for _, i := range [2]int{place, place + audit.MaxForms} {
		if f.slots[i].form == form {
			return f.slots[i].number
		}
	}
	for _, i := range [2]int{place, place + audit.MaxForms} {
		if f.slots[i].last <= s.done {
			return s.putForm(i, form)
		}
	}
	return 0
}

// putForm writes a form into a slot, under the next number that leads there.
func (s *spool) putForm(i int, form *audit.Form) uint64 {
	f := &s.forms
	b := form.Encode(make([]byte, formSlotHead, formSlotSize))
	if len(b) > formSlotSize {
		return 0
	}
	number := f.number - f.number%formSlotCount + uint64(i)
	for number <= f.number {
		number += formSlotCount
	}
	be := binary.BigEndian
	be.PutUint32(b, uint32(len(b)-formSlotHead))
	be.PutUint64(b[8:], number)
	be.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	copy(s.mem[spoolHeader+i*formSlotSize:], b)
	f.number, f.slots[i] = number, formSlot{form: form, number: number, last: s.done}
	return number
}
