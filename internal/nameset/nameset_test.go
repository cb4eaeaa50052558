package nameset_test

import (
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"github.com/crosscast/crosscast/internal/nameset"
)

type element struct{ name string }

func (e *element) named(name string) bool { return e.name == name }

// TestSetIsLikeAMap: also when hashes are few, so that elements are far from their slots, and around the end.
func TestSetIsLikeAMap(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, hashes := range []uint64{1 << 32, 1000, 7, 1} {
		hash := func(name string) uint32 { return uint32(maphash.String(seed, name)%hashes) - 3 }
		var set nameset.Set[*element]
		model := map[string]*element{}
		random := rand.New(rand.NewPCG(1, hashes))
		for i := range 20_000 {
			names := 500
			if i%8000 > 4000 {
				names = 20 // the set shrinks
			}
			name := strconv.Itoa(random.IntN(500))
			e := model[name]
			if got := set.Get(hash(name), name, (*element).named); got != e {
				t.Fatalf("%d hashes: Get(%s) returned %v, want %v", hashes, name, got, e)
			}
			switch {
			case e == nil && len(model) < names:
				e = &element{name}
				model[name] = e
				set.Add(hash(name), e)
			case e != nil && (random.IntN(2) == 0 || len(model) > names):
				delete(model, name)
				set.Remove(hash(name), e)
			}
			if set.Len() != len(model) {
				t.Fatalf("%d elements, want %d", set.Len(), len(model))
			}
			if i%100 != 0 {
				continue
			}
			n := 0
			for e := range set.All() {
				n++
				if model[e.name] != e {
					t.Fatalf("%s is in the set", e.name)
				}
			}
			if n != len(model) {
				t.Fatalf("All passed %d of %d", n, len(model))
			}
		}
	}
}

func TestBytesOfASlot(t *testing.T) {
	const n = 48 << 10 // three quarters of the slots
	elements := make([]element, n)
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	var set nameset.Set[*element]
	for i := range elements {
		set.Add(uint32(i)*0x9e3779b1, &elements[i])
	}
	if used := (heap() - before) / n; used > 17 {
		t.Errorf("%d bytes an element", used)
	}
	for i := range elements {
		set.Remove(uint32(i)*0x9e3779b1, &elements[i])
	}
	if used := heap() - before; used > 16<<10 {
		t.Errorf("%d bytes for an empty set", used)
	}
	runtime.KeepAlive(&set)
	runtime.KeepAlive(elements)
}

func BenchmarkGet(b *testing.B) {
	seed := maphash.MakeSeed()
	var set nameset.Set[*element]
	elements := make([]element, 100_000)
	for i := range elements {
		elements[i].name = "room-" + strconv.Itoa(i)
		set.Add(uint32(maphash.String(seed, elements[i].name)), &elements[i])
	}
	for i := 0; b.Loop(); i++ {
		e := &elements[i*7919%len(elements)]
		if set.Get(uint32(maphash.String(seed, e.name)), e.name, (*element).named) != e {
			b.Fatal("not found")
		}
	}
}
