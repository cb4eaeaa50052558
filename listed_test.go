package crosscast_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"testing"

	"github.com/crosscast/crosscast"
)

// TestListedValuesAreDocumented: the documentation of a type with listed values has a table of exactly these.
func TestListedValuesAreDocumented(t *testing.T) {
	check(t, "gap.go", "GapReason", crosscast.GapReasons())
	check(t, "loss.go", "LossReason", crosscast.LossReasons())
	check(t, "link.go", "LinkState", crosscast.LinkStates())
	check(t, "stats.go", "DropReason", crosscast.DropReasons())
}

// check compares values with the first column of the table in the comment of the type in file.
func check[T ~string](t *testing.T, file, name string, values []T) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	ok(t, err)
	rows := map[string]bool{}
	for _, d := range parsed.Decls {
		if d, isType := d.(*ast.GenDecl); isType && d.Tok == token.TYPE && d.Specs[0].(*ast.TypeSpec).Name.Name == name {
			for _, row := range regexp.MustCompile(`(?m)^\t(\w+( \w+)?)  `).FindAllStringSubmatch(d.Doc.Text(), -1) {
				rows[row[1]] = true
			}
		}
	}
	for _, value := range values {
		if !rows[string(value)] {
			t.Errorf("%s: the table does not have %q", name, value)
		}
		delete(rows, string(value))
	}
	for row := range rows {
		t.Errorf("%s: not listed: %q", name, row)
	}
}
