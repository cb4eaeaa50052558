package intern_test

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast/internal/intern"
)

func TestGetReturnsWhatItIsGiven(t *testing.T) {
	var table intern.Table
	for range 2 {
		for i := range 5000 { // more than there are slots
			want := fmt.Sprint("name", i)
			b := []byte(want)
			got := table.Get(b)
			clear(b)
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	if got := table.Get(nil); got != "" {
		t.Errorf("of no bytes it makes %q", got)
	}
}

func TestComingAgainAllocatesNothing(t *testing.T) {
	var table intern.Table
	b := []byte("a name that does not fit into a word")
	table.Get(b)
	if n := testing.AllocsPerRun(100, func() { table.Get(b) }); n != 0 {
		t.Errorf("a name that came before costs %v allocations", n)
	}
}
