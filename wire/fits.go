package wire

import (
	"math"
	"strings"

	"github.com/crosscast/crosscast"
)

// What is too large is refused before anybody gets it.

// besides is the largest instruction with no payload that a node does not ask Fits about.
var besides = func() int {
	name := strings.Repeat("n", crosscast.MaxName)
	in := crosscast.Instruction{Namespace: name, Event: name, Ref: name, Target: crosscast.Target{Rooms: []string{name}}}
	return plainHeader + instructionBound(&in)
}()

// MaxPayload implements crosscast.Sizer. What a payload becomes in a dialect may have another size: then Fits tells. With
// options that Start refuses it says nothing, so that Start does.
func (a *Adapter) MaxPayload() int {
	if a.optErr != nil {
		return math.MaxInt
	}
	return max(0, a.o.MaxFrame-besides)
}

// maxGrowth is how many times as long a dialect might write something, where a byte becomes an escape such as \u0000.
const maxGrowth = 6

// Fits implements crosscast.Sizer.
func (a *Adapter) Fits(in *crosscast.Instruction) error {
	if a.dialect != nil {
		if maxGrowth*instructionBound(in)+packBytes <= a.o.MaxFrame {
			return nil
		}
		s := spokens.Get().(*spoken)
		defer s.release()
		return a.write(s, in)
	}
	return a.bounded(instructionBound(in))
}

// bounded returns an error if an instruction of at most size bytes is too large for a frame.
func (a *Adapter) bounded(size int) error {
	if size+plainHeader > a.o.MaxFrame {
		return &crosscast.LimitError{What: "instruction", Len: size, Max: a.o.MaxFrame - plainHeader}
	}
	return nil
}
