package wire

import (
	"fmt"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// TestStrangersPushNoPeerOut: names that were heard once are forgotten before who is heard again and again.
func TestStrangersPushNoPeerOut(t *testing.T) {
	os := origins{}
	now := time.Now()
	os.of("realnode", now)
	real, _ := os.of("realnode", now)
	for i := range 2 * maxOrigins {
		now = now.Add(time.Millisecond)
		os.of(crosscast.NodeID(fmt.Sprintf("%08d", i)), now)
	}
	if os["realnode"] != real || len(os) != maxOrigins {
		t.Errorf("of %d origins the peer is not one", len(os))
	}
}
