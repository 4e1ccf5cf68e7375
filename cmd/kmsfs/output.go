package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// stdio is where a command reads and writes; tests give it their own.
type stdio struct {
	in       *os.File
	out, err io.Writer
}

// print writes data as indented JSON, or by text where JSON is not asked for.
func (io stdio) print(asJSON bool, data any, text func(w *tabwriter.Writer)) error {
	if asJSON {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(data)
	}
	w := tabwriter.NewWriter(io.out, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// line writes a label and a value; nothing where the value is empty.
func line(w io.Writer, label, value string) {
	if value != "" {
		fmt.Fprintf(w, "%s:\t%s\n", label, value)
	}
}

func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[i]
}

// count is a number and what it counts, whose plural ends in s.
func count(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// keyName is a key for people: its id, which every command takes, in the place of its ARN.
func keyName(arn string) string {
	if arn == "" {
		return "not known here"
	}
	return arn[strings.LastIndexByte(arn, '/')+1:]
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
