package mount

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// fusermount runs FUSE's set-uid helper, which mounts and unmounts for users.
func fusermount(args ...string) error {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		if bin, err = exec.LookPath("fusermount"); err != nil {
			return fmt.Errorf("%w: fusermount3 is not installed (apt-get install fuse3)", ErrNoFUSE)
		}
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", bin, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
