package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/kmsfs/kmsfs/mount"
)

// editable makes a temporary file of this user's with a text to edit, and returns its path. A * in the pattern becomes a random number.
func editable(pattern string, text []byte) (path string, err error) {
	f, err := os.CreateTemp("", pattern)
	if err != nil {
		return "", fmt.Errorf("make a file to edit: %w", err)
	}
	_, err = f.Write(text)
	return f.Name(), errors.Join(err, f.Close())
}

// runEditor runs $VISUAL, $EDITOR or vi on a file and returns when it has ended.
func runEditor(std stdio, file string) error {
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if value := os.Getenv(name); value != "" {
			editor = value
		}
	}
	cmd := exec.Command("sh", "-c", editor+` "$1"`, "sh", file) // the variable may hold arguments, as everywhere
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std.in, std.err, std.err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: editor %s: %w", mount.ErrUsage, editor, err)
	}
	return nil
}
