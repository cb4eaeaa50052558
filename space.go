package crosscast

import (
	"hash/maphash"
	"iter"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"weak"
)

// A space holds the state of a namespace in use at one node: the sockets, the groups and the watched rooms. A
// [Namespace] is only a name, and finds its space when it is used. So an empty namespace costs nothing, and one that
// only a peer has named never begins.
//
// A space counts its uses: each socket and subscription, each group in its maps, each watched room and watch, each Keep
// and, if namespaces have interests, each query. It ends with the last use; if it has an interest, that lingers first.
// An ended space is never used again: the next use makes another one.
type space struct {
	handle *Namespace
	node   *Node
	name   string
	seed   maphash.Seed
	uses   atomic.Int64 // negative: it has ended

	shards [shardCount]shard

	// all is the group of everyone, under a lock of its own, which also guards the slots.
	allShard  shard
	all       group
	freeSlots []int32
	slots     int32
}

// endedSpace is so far below 0 that no hold brings an ended space back.
const endedSpace = math.MinInt64 / 2

func newSpace(handle *Namespace) *space {
	n := handle.node
	ns := &space{handle: handle, node: n, name: handle.name, seed: maphash.MakeSeed()}
	ns.all = group{ns: ns, shard: &ns.allShard, space: SpaceNamespace}
	return ns
}

// hold adds a use, and returns false if the space has ended.
func (ns *space) hold() bool { return ns.uses.Add(1) > 0 }

// release ends a use. It may be called with a shard locked.
func (ns *space) release() {
	switch {
	case ns.uses.Add(-1) != 0:
	case ns.all.interested():
		ns.node.interests.idle(&ns.all)
	default:
		ns.expire()
	}
}

// expire ends the space if it is not in use, and reports whether it did.
func (ns *space) expire() bool {
	if !ns.uses.CompareAndSwap(0, endedSpace) {
		return false
	}
	ns.handle.space.CompareAndSwap(ns, nil)
	ns.node.spaces.m.CompareAndDelete(ns.name, ns)
	return true
}

// hold returns the namespace's space, and makes it if there is none. The caller must release it.
func (ns *Namespace) hold() *space {
	for {
		if sp := ns.space.Load(); sp != nil && sp.hold() {
			return sp
		}
		ns.node.presence.begin(ns)
	}
}

// here returns the namespace's space for callers that only read; an empty one if there is none.
func (ns *Namespace) here() *space {
	if sp := ns.space.Load(); sp != nil {
		return sp
	}
	return ns.node.nowhere
}

// spaces are a node's spaces, by the names of their namespaces. Each arriving instruction looks one up.
type spaces struct {
	home *space   // of "/", which never ends
	m    sync.Map // from string to *space, the others
}

// get returns the named space; nil: the namespace is not in use.
func (s *spaces) get(name string) *space {
	if name == "/" {
		return s.home
	}
	if v, ok := s.m.Load(name); ok {
		return v.(*space)
	}
	return nil
}

func (s *spaces) all() iter.Seq[*space] {
	return func(yield func(*space) bool) {
		if yield(s.home) {
			s.m.Range(func(_, v any) bool { return yield(v.(*space)) })
		}
	}
}

// namespace returns the namespace with a valid name: the same pointer while anybody keeps it.
func (n *Node) namespace(name string) *Namespace {
	if name == "/" {
		return n.Namespace
	}
	if v, ok := n.handles.Load(name); ok {
		if ns := v.(weak.Pointer[Namespace]).Value(); ns != nil {
			return ns
		}
	}
	name = strings.Clone(name) // the given name might be part of a large string
	ns := &Namespace{node: n, name: name}
	handle, handles := weak.Make(ns), n.handles
	for {
		v, loaded := handles.LoadOrStore(name, handle)
		if !loaded {
			break
		}
		if other := v.(weak.Pointer[Namespace]).Value(); other != nil {
			return other
		}
		handles.CompareAndDelete(name, v)
	}
	// The cleanup must not reference ns, and the node references it.
	runtime.AddCleanup(ns, func(handle weak.Pointer[Namespace]) { handles.CompareAndDelete(name, handle) }, handle)
	return ns
}
