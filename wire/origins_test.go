package wire

import (
	"fmt"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// TestStrangersPushNoPeerOut: names that a stranger makes up, and says once or twice in a row, are forgotten before who is
// heard again and again, however short before that was heard last.
func TestStrangersPushNoPeerOut(t *testing.T) {
	for times := 1; times <= 2; times++ {
		os := origins{m: map[crosscast.NodeID]*origin{}}
		now := time.Now()
		os.of("realnode", now)
		now = now.Add(time.Second)
		real, _ := os.of("realnode", now)
		for i := range 3 * maxOrigins {
			now = now.Add(10 * time.Microsecond)
			for range times {
				os.of(crosscast.NodeID(fmt.Sprintf("%08d", i)), now)
			}
		}
		if os.m["realnode"] != real || len(os.m) != maxOrigins {
			t.Errorf("of %d origins, each heard %d times, the peer is not one", len(os.m), times)
		}
		// Of those that are known, the silent ones are forgotten first.
		now = now.Add(time.Second)
		for id := range os.m {
			if id != "realnode" {
				os.of(id, now)
			}
		}
		if _, forgotten := os.of("newcomer", now); forgotten != real {
			t.Errorf("%s was forgotten, and not who is silent", forgotten.id)
		}
	}
}

// While nearly all who are remembered are known, strangers push out one another.
func TestStrangersPushNoneOfManyPeersOut(t *testing.T) {
	os := origins{m: map[crosscast.NodeID]*origin{}}
	now := time.Now()
	beat := func() {
		for i := range maxOrigins - 1 {
			os.of(crosscast.NodeID(fmt.Sprint("node", i)), now)
		}
		now = now.Add(time.Second)
	}
	beat()
	beat()
	for range 3 {
		for i := range maxOrigins {
			os.of(crosscast.NodeID(fmt.Sprintf("%08d", i)), now)
			now = now.Add(10 * time.Microsecond)
		}
		for i := range maxOrigins - 1 {
			if os.m[crosscast.NodeID(fmt.Sprint("node", i))] == nil {
				t.Fatalf("node %d was forgotten", i)
			}
		}
		beat()
	}
}
