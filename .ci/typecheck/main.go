// Typecheck checks the types of packages for other systems, with all they import, from source. Nothing is compiled, so it
// takes a fraction of the time of a build, and finds what differs between systems: names that one lacks, and constants
// that an int of 32 bits does not hold.
//
//	typecheck DIRECTORY SYSTEM/ARCHITECTURE[+tests] PATTERN
package main

import (
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: typecheck DIRECTORY SYSTEM/ARCHITECTURE[+tests] PATTERN")
	}
	target, tests := strings.CutSuffix(os.Args[2], "+tests")
	system, architecture, _ := strings.Cut(target, "/")
	found, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax,
		Dir:   os.Args[1],
		Env:   append(os.Environ(), "GOOS="+system, "GOARCH="+architecture, "CGO_ENABLED=0"),
		Tests: tests,
	}, os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if packages.PrintErrors(found) > 0 {
		os.Exit(1)
	}
	fmt.Printf("%s: %d packages\n", os.Args[2], len(found))
}
