package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestExported: each kind of name is listed, and nothing else.
func TestExported(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.go": `package p

const A, b = 1, 2

var V int

type T[X any] struct{ Field int }

type I interface{ Method() }

type hidden struct{ T[int] }

func (*T[X]) M()      {}
func (T[X]) m()       {}
func (hidden) Hidden() {}
func F()              {}
func f()              {}
`,
		"a_test.go": "package p\n\nfunc Test() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := exported(dir)
	want := []string{"const A", "func F", "method T.M", "type I", "type T", "var V"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
