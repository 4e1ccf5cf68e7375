//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/kmsfs/kmsfs/hsm"
)

// module is a loaded library.
type module struct {
	ctx    *p11.Ctx
	native native
	soft   bool // SoftHSM, as far as is known
}

// loadModule loads the library at path.
func loadModule(path string) (*module, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no file %s: install the HSM's software "+
			"(for SoftHSM apt-get install softhsm2, then /usr/lib/softhsm/libsofthsm2.so) or correct the path", hsm.ErrModule, path)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", hsm.ErrModule, err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a file", hsm.ErrModule, path)
	}
	n, err := loadNative(path)
	if err != nil {
		return nil, err
	}
	m := &module{ctx: p11.New(path), native: n, soft: strings.Contains(filepath.Base(path), "softhsm")}
	if m.ctx == nil {
		return nil, fmt.Errorf("%w: load %s a second time", hsm.ErrModule, path)
	}
	return m, nil
}

// identify sees what the module calls itself; it must be initialised.
func (m *module) identify() {
	if info, err := m.ctx.GetInfo(); err == nil {
		m.soft = strings.HasPrefix(info.ManufacturerID, "SoftHSM")
	}
}

// hint says where to look when tokens are missing.
func (m *module) hint() string {
	if m.soft {
		return fmt.Sprintf("for SoftHSM look at the directory that $SOFTHSM2_CONF, here %q, names, "+
			"and at softhsm2-util --show-slots", os.Getenv("SOFTHSM2_CONF"))
	}
	return "see what pkcs11-tool --module ... -L shows"
}
