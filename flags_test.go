package crosscast_test

import (
	"testing"

	"github.com/crosscast/crosscast"
)

// TestFlagsOfANewerVersion: bits that are not known mean nothing here.
func TestFlagsOfANewerVersion(t *testing.T) {
	for _, volatile := range []bool{false, true} {
		inst := benchEmission()
		inst.Volatile = volatile
		data, err := crosscast.AppendInstruction(nil, inst)
		ok(t, err)
		data[2] |= 0x40 // behind the length of the array, and the kind
		var r crosscast.InstructionReader
		got, _, err := r.Read(data)
		ok(t, err)
		if got.Volatile != volatile || got.Event != inst.Event {
			t.Errorf("volatile %v: %+v", volatile, got)
		}
	}
}
