// Package goldentest compares bytes with those that are written down in a file, in hexadecimal.
package goldentest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Named are bytes that the file has a name for.
type Named struct {
	Name  string
	Bytes []byte
}

// Compare fails unless the file has exactly these names and bytes, and returns the file's. With update it writes the file
// first.
func Compare(t *testing.T, path string, update bool, all []Named) map[string][]byte {
	t.Helper()
	if update {
		var out bytes.Buffer
		fmt.Fprintf(&out, "# In hexadecimal: go test -run %s -update-golden rewrites this file.\n", t.Name())
		for _, g := range all {
			fmt.Fprintf(&out, "%s %x\n", g.Name, g.Bytes)
		}
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	golden := map[string][]byte{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, digits, _ := strings.Cut(lines.Text(), " ")
		if name == "#" {
			continue
		}
		if golden[name], err = hex.DecodeString(digits); err != nil {
			t.Fatal(name, err)
		}
	}
	for _, g := range all {
		if !bytes.Equal(g.Bytes, golden[g.Name]) {
			t.Errorf("%s: written\n%x\ngolden\n%x", g.Name, g.Bytes, golden[g.Name])
		}
	}
	if len(golden) != len(all) {
		t.Errorf("%s has %d names, and %d are tested", path, len(golden), len(all))
	}
	return golden
}
