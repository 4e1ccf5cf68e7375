package meta

import (
	"bytes"
	"strings"
)

func validTarget(t []byte) bool {
	return len(t) > 0 && len(t) <= MaxTarget && bytes.IndexByte(t, 0) < 0
}

func checkXattrName(name string) error {
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0:
		return ErrBadName
	case len(name) > MaxXattrName:
		return ErrNameTooLong
	}
	return nil
}
