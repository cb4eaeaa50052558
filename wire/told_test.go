package wire

import (
	"testing"

	"github.com/crosscast/crosscast"
)

// TestTold: the losses that are remembered are bounded, and then count for all names. What was not the origin's is forgotten.
func TestTold(t *testing.T) {
	a, b := crosscast.Address{Space: crosscast.SpaceRoom, Name: "A"}, crosscast.Address{Space: crosscast.SpaceRoom, Name: "B"}
	var told told
	told.addLoss(&lossRange{From: 10, To: 12, Names: []crosscast.Address{a}})
	if !told.reaches(12, a) || told.reaches(13, a) || told.reaches(1, b) {
		t.Errorf("after one loss: %+v", told)
	}
	told.addLoss(&lossRange{From: 13, To: 13, Names: []crosscast.Address{{Space: spaceShared, Name: "hr:4:1"}}})
	if !told.reaches(13, b) || told.reaches(14, b) {
		t.Errorf("after one of a shared topic: %+v", told)
	}
	for n := range uint64(2 * maxTold) {
		told.addLoss(&lossRange{From: 20 + n, To: 20 + n, Names: []crosscast.Address{a}})
	}
	if len(told.names) != maxTold || !told.reaches(20+2*maxTold-1, a) || !told.reaches(20+maxTold-1, b) || told.reaches(20+maxTold, b) {
		t.Errorf("after many: %+v", told)
	}
	told.forget(15)
	if !told.reaches(14, a) || told.reaches(15, a) {
		t.Errorf("afterwards: %+v", told)
	}
}
