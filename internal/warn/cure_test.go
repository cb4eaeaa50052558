package warn

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// TestLinkCure: whoever waits for an answer has reached the bus; whoever cannot connect has not.
func TestLinkCure(t *testing.T) {
	timeout := func(op string) error {
		return fmt.Errorf("redis at r: %w", &net.OpError{Op: op, Net: "tcp", Err: os.ErrDeadlineExceeded})
	}
	for _, test := range []struct {
		state string
		err   error
		want  string
	}{
		{"down", timeout("read"), "nothing answers"},
		{"down", timeout("write"), "nothing answers"},
		{"down", timeout("dial"), "can be reached"},
		{"down", ErrNoAnswer, "nothing answers"},
		{"down", nil, "can be reached"},
		{"denied", timeout("read"), "credentials"},
		{"deaf", nil, "proxy"},
	} {
		if got := LinkCure(test.state, test.err); !strings.Contains(got, test.want) {
			t.Errorf("%s, %v: %s", test.state, test.err, got)
		}
	}
	if LinkCure("live", nil)+LinkCure("held", nil) != "" || Rank("held") > Rank("down") || Rank("down") > Rank("denied") {
		t.Error("a cure for what needs none, or a wrong order")
	}
}
