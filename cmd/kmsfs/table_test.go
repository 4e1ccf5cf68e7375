package main

import (
	"strings"
	"testing"
)

// TestTable: columns stand below their titles whatever is long or missing, and one that nobody fills is left out.
func TestTable(t *testing.T) {
	rows := [][]string{{"a", "", "", "end"}, {"longer than its title", "", "ünd", ""}, {"", "", "x", "last"}}
	var columns []column[[]string]
	for i, title := range []string{"ONE", "TWO", "THREE", "FOUR"} {
		columns = append(columns, column[[]string]{title, func(row []string) string { return row[i] }})
	}
	var out strings.Builder
	writeTable(&out, rows, columns)
	want := "" +
		"ONE                    THREE  FOUR\n" +
		"a                             end\n" +
		"longer than its title  ünd\n" +
		"                       x      last\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}
