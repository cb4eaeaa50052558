package errtext

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestOne(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"no prefix":            "no prefix",
		"crosscast: closed":    "crosscast: closed",
		"redis: crosscast: no": "crosscast: redis: no",
		"crosscast: start: redis at x:1: crosscast: denied: NOPERM": "crosscast: start: redis at x:1: denied: NOPERM",
		"crosscast/ws: crosscast: draining":                         "crosscast/ws: draining",
		"crosscast: a; crosscast/wire: b (crosscast: c)":            "crosscast: a; b (c)",
		`crosscast: room "crosscast: x": too long`:                  `crosscast: room "crosscast: x": too long`,
	} {
		if got := One(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestErrorfWraps(t *testing.T) {
	inner := errors.New("crosscast: denied")
	err := Errorf("%w: %w", Errorf("redis: %w", inner), io.EOF)
	if !errors.Is(err, inner) || !errors.Is(err, io.EOF) || err.Error() != "crosscast: redis: denied: EOF" {
		t.Error(err)
	}
}

// doubling matches a call that might make a second prefix: one that wraps, and has a prefix or wraps a name of ours.
var doubling = regexp.MustCompile(`fmt\.Errorf\("(crosscast[^"]*%w|[^"]*%w[^"]*".*\bErr[A-Z])`)

// parsers matches what parsers wrap of ours, in front. They must be quick when somebody floods them.
var parsers = regexp.MustCompile(`\bErr(Malformed|Foreign|NoCounterpart)\b`)

// TestEverywhere: the module's packages wrap with Errorf, where fmt.Errorf might make a second prefix.
func TestEverywhere(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch {
			case path != "../.." && strings.HasPrefix(d.Name(), "."), d.Name() == "node_modules", d.Name() == "testdata":
				return filepath.SkipDir
			case path != "../..": // a module of its own
				if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
					return filepath.SkipDir
				}
			}
			switch filepath.ToSlash(path) { // they import nothing of ours
			case "../../ws/client", "../../examples":
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			parser := parsers.MatchString(line) || strings.Contains(path, "ingress.go")
			if doubling.MatchString(line) && !parser {
				t.Errorf("%s:%d: use errtext.Errorf: %s", path, i+1, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
