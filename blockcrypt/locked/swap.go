package locked

import (
	"os"
	"path/filepath"
	"strings"
)

// SwapRisk says, for people, how memory of this process that is not locked may reach a disk, and what to do about that; "" if it can't. Keys are locked; what
// is read and written through a mount passes through memory that is not.
func SwapRisk() string {
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return ""
	}
	return swapRisk(string(swaps), swapLimit())
}

// swapLimit returns memory.swap.max of the process' control group (v2), "" if there is none.
func swapLimit() string {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(groups), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			limit, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", path, "memory.swap.max"))
			if err == nil {
				return strings.TrimSpace(string(limit))
			}
		}
	}
	return ""
}

// swapRisk judges the content of /proc/swaps, a line of heads and one for each area, and the limit.
func swapRisk(swaps, limit string) string {
	if limit == "0" {
		return ""
	}
	var areas []string
	for _, line := range strings.Split(strings.TrimSpace(swaps), "\n")[1:] {
		if fields := strings.Fields(line); len(fields) > 0 && !inMemory(fields[0]) {
			areas = append(areas, fields[0])
		}
	}
	if len(areas) == 0 {
		return ""
	}
	return "swap is on (" + strings.Join(areas, ", ") + "): pieces of files may be written to it. Encrypt it, or set MemorySwapMax=0 for the service"
}

// inMemory tells areas that are compressed memory, and no disk unless a backing device was set.
func inMemory(area string) bool {
	name := filepath.Base(area)
	if !strings.HasPrefix(name, "zram") {
		return false
	}
	backing, err := os.ReadFile(filepath.Join("/sys/block", name, "backing_dev"))
	return err != nil || strings.TrimSpace(string(backing)) == "none"
}
