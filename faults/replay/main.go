// The command replay balances the books of a ledger again, and prints what happened in it:
//
//	go run ./replay /tmp/faults-1-123456
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/crosscast/crosscast/faults/books"
)

func main() {
	all := flag.Bool("all", false, "print the deliveries, too")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: replay [-all] DIRECTORY")
		os.Exit(2)
	}
	problems, err := replay(flag.Arg(0), *all)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if problems > 0 {
		os.Exit(1)
	}
}

func replay(directory string, all bool) (problems int, err error) {
	file, err := os.Open(filepath.Join(directory, "ledger.jsonl"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	entries, err := books.Read(file)
	if err != nil {
		return 0, err
	}
	if len(entries) == 0 || entries[0].Run == nil {
		return 0, fmt.Errorf("%s is not the ledger of a run", file.Name())
	}
	run, r := entries[0].Run, books.Balance(entries)
	fmt.Printf("row %s on %s, heartbeat %v, seed %d\n", run.Row, run.Server, run.Heartbeat, run.Seed)
	for _, e := range entries {
		if line := text(&e, r.Nodes, all); line != "" {
			fmt.Printf("%10.3f  %s\n", time.Duration(e.At-entries[0].At).Seconds(), line)
		}
	}
	fmt.Printf("%d emissions; %d missed; %d gaps %v, %v longer than the faults; %d losses; delivery was back after %v\n",
		r.Sent, r.Missed, r.Gaps, r.Reasons, r.Excess, r.Losses, r.Recovery)
	for _, p := range r.Problems {
		fmt.Println(p)
	}
	matrix := "full"
	if run.Short {
		matrix = "short"
	}
	fmt.Printf("the same schedule again: go test -run TestMatrix -matrix %s -rows %s -servers %q -seed %d\n", matrix, run.Row,
		run.Server, run.Seed)
	return len(r.Problems), nil
}

func text(e *books.Entry, names map[string]string, all bool) string {
	who, of := names[e.Node], names[e.Origin]
	switch e.Is {
	case books.Begin:
		return ""
	case books.Fault:
		return "FAULT: " + e.Text
	case books.Mended:
		return "over: " + e.Text
	case books.Permit:
		return fmt.Sprintf("permitted: %+v", *e.Allow)
	case books.GapOf:
		return fmt.Sprintf("%s: gap %q of %q, all rooms %v, rooms %q, %v long", who, e.Gap.Reason, names[e.Gap.Origin], e.Gap.All,
			e.Gap.Rooms, time.Duration(e.Gap.Until-e.Gap.Since))
	case books.Lost:
		return fmt.Sprintf("%s: loss of %d, %s", who, e.Loss.Instructions, e.Text)
	case books.Sent:
		if all || len(e.Failed) > 0 {
			return fmt.Sprintf("%s: emits %d to %d to %q; refused: %d %s", who, e.From, e.To, e.Room, e.Failed, e.Text)
		}
		return ""
	case books.Got:
		if all {
			return fmt.Sprintf("%s: gets %d to %d of %s in %q", who, e.From, e.To, of, e.Room)
		}
		return ""
	default:
		return fmt.Sprintf("%s: %s %s %s %s", who, e.Is, e.Room, of, e.Text)
	}
}
