package object

import (
	"errors"
	"fmt"
	"syscall"
)

// Item is one thing found in the objects directory.
type Item struct {
	Name string // path below the directory
	ID   ID     // valid if Err is nil
	Size int64  // length in bytes
	Err  error  // why this is no object: ErrHostile, or the system's error
}

// List calls fn for everything in the directory, in no order, what does not
// belong there included, until fn returns false. Objects made or removed
// meanwhile may or may not be seen.
func (s *Store) List(fn func(Item) bool) error {
	more := true
	var inner error
	err := s.lower.ReadDir("", func(fan string) bool {
		if !isFan(fan) {
			more = fn(Item{Name: fan, Err: fmt.Errorf("unknown name: %w", ErrHostile)})
			return more
		}
		err := s.lower.ReadDir(fan, func(name string) bool {
			item, ok := s.item(fan, name)
			if ok {
				more = fn(item)
			}
			return more
		})
		if errors.Is(err, ErrHostile) {
			more = fn(Item{Name: fan, Err: err})
			err = nil
		}
		inner = err
		return more && err == nil
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	return nil
}

func isFan(name string) bool {
	var id ID
	if len(name) != 2 {
		return false
	}
	id, ok := parseID(name + "000000000000000000000000000000")
	return ok && fanName(id[0]) == name
}

// item looks at one name; false if it is gone meanwhile.
func (s *Store) item(fan, name string) (Item, bool) {
	it := Item{Name: fan + "/" + name}
	id, ok := parseID(name)
	if !ok || fanName(id[0]) != fan {
		it.Err = fmt.Errorf("unknown name: %w", ErrHostile)
		return it, true
	}
	it.ID = id
	lower, err := s.lower.OpenFile(it.Name, false)
	if errors.Is(err, syscall.ENOENT) {
		return it, false
	}
	if err != nil {
		it.Err = err
		return it, true
	}
	defer lower.Close()
	it.Size, _, it.Err = lower.Stat()
	return it, true
}
