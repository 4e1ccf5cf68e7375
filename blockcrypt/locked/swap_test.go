package locked

import (
	"strings"
	"testing"
)

func TestSwapRisk(t *testing.T) {
	const heads = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for _, c := range []struct {
		swaps, limit, names string
	}{
		{heads, "", ""},
		{heads, "max", ""},
		{"", "max", ""},
		{heads + "/dev/sda2 partition 1000 0 -2\n", "max", "/dev/sda2"},
		{heads + "/dev/sda2 partition 1000 0 -2\n/swapfile file 1 0 -3\n", "", "/dev/sda2, /swapfile"},
		{heads + "/dev/sda2 partition 1000 0 -2\n", "0", ""},
		{heads + "/dev/sda2 partition 1000 0 -2\n", "4096", "/dev/sda2"},
		{heads + "/dev/zram99 partition 1000 0 100\n", "max", ""},
	} {
		got := swapRisk(c.swaps, c.limit)
		if c.names == "" && got != "" || c.names != "" && (!strings.Contains(got, "("+c.names+")") || !strings.Contains(got, "MemorySwapMax=0")) {
			t.Errorf("swaps %q, limit %q: %q", c.swaps, c.limit, got)
		}
	}
}
