package wire

import (
	"math"
	"strings"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
)

// This file refuses instructions that are too large before anybody gets them.

// besides is the size of the largest instruction without its payload for which a node does not call Fits.
var besides = func() int {
	name := strings.Repeat("n", limit.Name)
	inst := crosscast.Instruction{Namespace: name, Event: name, Ref: name, Target: crosscast.Target{Rooms: []string{name}}}
	return plainHeader + instructionBound(&inst)
}()

// MaxPayload implements crosscast.AdapterSizer. A payload might have another size in a dialect: Fits knows that size.
// With invalid options MaxPayload allows every size, so that Start returns the error.
func (a *Adapter) MaxPayload() int {
	if a.optErr != nil {
		return math.MaxInt
	}
	return max(0, a.o.MaxFrame-besides)
}

// Fits implements crosscast.AdapterSizer.
func (a *Adapter) Fits(inst *crosscast.Instruction) error { return a.run.Load().format.fits(inst) }
