package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// A table prints rows in columns.
type table struct {
	w *tabwriter.Writer
}

func newTable(out io.Writer, head ...any) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

// row adds a row. Texts may be anybody's, such as the names of rooms: they become harmless to a terminal.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		end := "\t"
		if i == len(cells)-1 {
			end = "\n"
		}
		fmt.Fprint(t.w, shown(fmt.Sprint(c)), end)
	}
}

func (t *table) flush() error { return t.w.Flush() }

// shown is a name with its control characters escaped.
func shown(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return fmt.Sprintf("%q", s)
}
