package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine describes where the figures were taken.
func machine(dir string) map[string]string {
	m := map[string]string{
		"cpus": fmt.Sprint(runtime.NumCPU()),
		"go":   runtime.Version(),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m["kernel"] = unix.ByteSliceToString(name.Release[:])
	}
	if out, err := exec.Command("findmnt", "-n", "-o", "FSTYPE", "-T", dir).Output(); err == nil {
		m["filesystem"] = strings.TrimSpace(string(out))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m["load at start"] = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	if out, err := exec.Command("gocryptfs", "-version").Output(); err == nil {
		m["gocryptfs"], _, _ = strings.Cut(strings.TrimSpace(string(out)), ";")
	}
	return m
}
