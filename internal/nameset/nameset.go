// Package nameset finds elements by their names, in little memory: a slot takes 12 bytes, and one of a map from string to
// pointer takes 25.
package nameset

import "iter"

// A Set is a set of elements with different names. The zero value is empty. It is not for concurrent use. Its callers
// hash the names, with a secret seed where strangers choose names.
//
// It is a table with linear probing: an element is in the slot of its hash, or behind that, without an empty slot in
// between. At most 7 of 8 slots are used. A search reads hashes, 16 in a cache line, and hardly another element.
type Set[E comparable] struct {
	*table[E] // nil: the set is empty
}

type table[E comparable] struct {
	elements []E      // a power of 2
	hashes   []uint32 // of the elements; 0: the slot is empty
	n        int
}

const least = 8

// Len returns the number of elements.
func (s *Set[E]) Len() int {
	if s.table == nil {
		return 0
	}
	return s.n
}

// Get returns the element with a name, or the zero value. named reports whether an element has the name.
func (s *Set[E]) Get(hash uint32, name string, named func(e E, name string) bool) (found E) {
	if s.table == nil {
		return found
	}
	hash = max(hash, 1)
	mask := uint32(len(s.hashes) - 1)
	for i := hash & mask; s.hashes[i] != 0; i = (i + 1) & mask {
		if s.hashes[i] == hash && named(s.elements[i], name) {
			return s.elements[i]
		}
	}
	return found
}

// Add adds an element. The set has none with its name.
func (s *Set[E]) Add(hash uint32, e E) {
	if s.table == nil {
		s.table = new(table[E])
		s.resize(least)
	} else if s.n >= len(s.hashes)/8*7 {
		s.resize(2 * len(s.hashes))
	}
	s.n++
	s.put(max(hash, 1), e)
}

// put puts an element into the first empty slot.
func (s *table[E]) put(hash uint32, e E) {
	mask := uint32(len(s.hashes) - 1)
	i := hash & mask
	for s.hashes[i] != 0 {
		i = (i + 1) & mask
	}
	s.elements[i], s.hashes[i] = e, hash
}

func (s *table[E]) resize(size int) {
	elements, hashes := s.elements, s.hashes
	s.elements, s.hashes = make([]E, size), make([]uint32, size)
	for i, hash := range hashes {
		if hash != 0 {
			s.put(hash, elements[i])
		}
	}
}

// Remove removes an element that is in the set. It gives memory back once most slots are empty.
func (s *Set[E]) Remove(hash uint32, e E) {
	mask := uint32(len(s.hashes) - 1)
	i := max(hash, 1) & mask
	for s.elements[i] != e {
		i = (i + 1) & mask
	}
	// The elements behind it move up, so that none is behind an empty slot.
	for j := (i + 1) & mask; s.hashes[j] != 0; j = (j + 1) & mask {
		if (j-s.hashes[j])&mask >= (j-i)&mask { // it may be in slot i, because its own slot is not behind that
			s.elements[i], s.hashes[i] = s.elements[j], s.hashes[j]
			i = j
		}
	}
	var none E
	s.elements[i], s.hashes[i] = none, 0
	s.n--
	switch size := len(s.hashes); {
	case s.n == 0:
		s.table = nil
	case size > least && s.n < size/8:
		s.resize(size / 4)
	}
}

// All passes all elements, in no order. The set must not change meanwhile.
func (s *Set[E]) All() iter.Seq[E] {
	return func(yield func(E) bool) {
		if s.table == nil {
			return
		}
		for i, hash := range s.hashes {
			if hash != 0 && !yield(s.elements[i]) {
				return
			}
		}
	}
}
