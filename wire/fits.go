package wire

import (
	"math"
	"strings"

	"github.com/crosscast/crosscast"
)

// Too large instructions are refused before anybody gets them.

// besides is the largest instruction with no payload that a node does not ask Fits about.
var besides = func() int {
	name := strings.Repeat("n", crosscast.MaxName)
	inst := crosscast.Instruction{Namespace: name, Event: name, Ref: name, Target: crosscast.Target{Rooms: []string{name}}}
	return plainHeader + instructionBound(&inst)
}()

// MaxPayload implements crosscast.AdapterSizer. What a payload becomes in a dialect might have another size: then Fits
// tells. With options that Start refuses it says nothing, so that Start does.
func (a *Adapter) MaxPayload() int {
	if a.optErr != nil {
		return math.MaxInt
	}
	return max(0, a.o.MaxFrame-besides)
}

// Fits implements crosscast.AdapterSizer.
func (a *Adapter) Fits(inst *crosscast.Instruction) error { return a.run.Load().format.fits(inst) }
