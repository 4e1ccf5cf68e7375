package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kmsfs/kmsfs/mount"
)

// column is a title and what stands below it in the row of a T.
type column[T any] struct {
	title string
	cell  func(T) string
}

// printTable prints rows as a JSON array, or as a table; none is said on standard error where there are none.
func printTable[T any](std stdio, asJSON bool, rows []T, none string, columns ...column[T]) error {
	if len(rows) == 0 && !asJSON {
		_, err := fmt.Fprintln(std.err, none)
		return err
	}
	return std.print(asJSON, rows, func(w *tabwriter.Writer) { writeTable(w, rows, columns) })
}

// writeTable writes a head and a line for each row. Columns in which no row has anything are left out.
func writeTable[T any](w io.Writer, rows []T, columns []column[T]) {
	lines := make([]strings.Builder, len(rows)+1)
	pad := 0
	for _, c := range columns {
		cells, width := []string{c.title}, utf8.RuneCountInString(c.title)
		empty := true
		for _, row := range rows {
			cell := c.cell(row)
			cells, width, empty = append(cells, cell), max(width, utf8.RuneCountInString(cell)), empty && cell == ""
		}
		if empty {
			continue
		}
		for i, cell := range cells {
			for utf8.RuneCountInString(lines[i].String()) < pad {
				lines[i].WriteByte(' ')
			}
			lines[i].WriteString(cell)
		}
		pad += width + 2
	}
	for i := range lines {
		fmt.Fprintln(w, strings.TrimRight(lines[i].String(), " "))
	}
}

// listing is a command that lists what a key manager has.
type listing[T any] struct {
	use, short string
	none       string // what is said where there is nothing
	identities bool   // identities may ask as well
	rows       func(ctx context.Context, keys *mount.Keys, args []string) ([]T, error)
	columns    []column[T]
}

// listCommand makes the command of a listing.
func listCommand[T any](std stdio, l listing[T]) *cobra.Command {
	var store storeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: l.use, Short: l.short, Args: exactly(l.use),
		RunE: func(cmd *cobra.Command, args []string) error {
			all := []T{}
			err := withKeys(cmd.Context(), &store, func(keys *mount.Keys) error {
				rows, err := l.rows(cmd.Context(), keys, args)
				all = append(all, rows...)
				return err
			})
			if err != nil {
				return err
			}
			return printTable(std, asJSON, all, l.none, l.columns...)
		},
	}
	store.addFor(cmd, l.identities)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// Who may call a command that asks the key manager.
const (
	ownerOnly  = false
	identities = true
)

// callCommand is a command that has the key manager do one thing, to what its usage line names.
func callCommand(use, short string, who bool, do func(ctx context.Context, keys *mount.Keys, args []string) error) *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly(use),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withKeys(cmd.Context(), &store, func(keys *mount.Keys) error { return do(cmd.Context(), keys, args) })
		},
	}
	store.addFor(cmd, who)
	return cmd
}

// exactly wants the operands that a usage line names.
func exactly(use string) cobra.PositionalArgs {
	return usage(cobra.ExactArgs(len(strings.Fields(use)) - 1))
}
