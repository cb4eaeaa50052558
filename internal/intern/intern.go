// Package intern remembers strings that come again and again.
package intern

import "hash/maphash"

// A Table remembers short strings, so that one that comes again needs no allocation. The zero value is ready. It is not
// for concurrent use. Who gives it long strings makes it keep much memory.
//
// It is bounded by construction: a string has a window of slots in which it may be, and a new one takes the place of
// another when all are taken. The seed keeps whoever sends the names from choosing windows. A memory that is a map
// and is emptied when full would allocate everything again at once, and again.
type Table struct {
	slots *[tableSlots]string
	seed  maphash.Seed
	next  uint // the slot of a full window to take next
}

const (
	tableSlots  = 1024 // a power of 2; with strings of 255 bytes, 272 KiB in all
	tableWindow = 8
)

// Get returns b as a string.
func (t *Table) Get(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if t.slots == nil {
		t.slots = new([tableSlots]string)
		t.seed = maphash.MakeSeed()
	}
	at := uint(maphash.Bytes(t.seed, b))
	for i := range uint(tableWindow) {
		s := &t.slots[(at+i)%tableSlots]
		if *s == string(b) {
			return *s
		}
		if *s == "" {
			*s = string(b)
			return *s
		}
	}
	t.next++
	s := &t.slots[(at+t.next%tableWindow)%tableSlots]
	*s = string(b)
	return *s
}
