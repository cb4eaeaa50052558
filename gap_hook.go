package crosscast

import (
	"slices"
	"time"
)

// OnGap has f called with the part of each [Gap] that concerns the namespace: its Names are those of the namespace, or
// nil, which is all. It is for bindings, which may keep something of each client that a gap makes stale. Functions are
// called in the order in which they were given to OnGap, before Options.OnGap, on the same goroutine and under the same
// rules: they must not wait for anything.
//
// f is also called when the node notices that its link is lost or deaf, with a gap of everything that has no Until.
// Options.OnGap is not. A client that leaves the node during the outage can know then what it might miss, and a binding
// also tells those that connect meanwhile. The gap of the outage follows when the link is back. It has the reason "link
// lost", "link deaf" or "moved", and might begin earlier. Other gaps that come meanwhile do not end the outage. If there is
// an outage when OnGap is called, so is f.
//
// They are called until the node is closed. [ErrClosed]: it is being closed, and f is not called. An emitter has no
// gaps ([ErrEmitOnly]).
func (ns *Namespace) OnGap(f func(g Gap)) error {
	n := ns.node
	if n.deaf != nil {
		return n.deaf
	}
	err := n.register(func() { n.gapHooks = append(slices.Clip(n.gapHooks), gapHook{ns, f}) })
	if err != nil {
		return err
	}
	call := func(g Gap) { n.call("Namespace.OnGap", func() { f(g) }) }
	for o := n.outage.Load(); o != nil; {
		call(*o)

		began := o
		if o = n.outage.Load(); o == nil { // f might have been called with the end before
			call(Gap{Since: began.Since, Until: time.Now(), Reason: began.Reason})
		} else if o == began {
			break
		}
	}
	return nil
}

// A gapHook is a function of Namespace.OnGap.
type gapHook struct {
	ns *Namespace
	f  func(Gap)
}

// part returns what g is to a namespace, and whether it is anything.
func (g Gap) part(namespace string) (Gap, bool) {
	if g.Names == nil {
		return g, true
	}
	var names []Address
	for _, a := range g.Names {
		if a.Namespace == namespace {
			names = append(names, a)
		}
	}
	g.Names = names
	return g, names != nil
}

// callGapHooks calls the functions of Namespace.OnGap, and last after them.
func (n *Node) callGapHooks(g Gap, last func()) {
	n.mu.Lock()
	hooks := n.gapHooks
	n.mu.Unlock()
	inTurn(len(hooks)+1, func(i int) {
		if i == len(hooks) {
			last()
		} else if part, concerns := g.part(hooks[i].ns.name); concerns {
			n.call("Namespace.OnGap", func() { hooks[i].f(part) })
		}
	})
}

func (h *handler) Outage(since time.Time, why GapReason) {
	n := (*Node)(h)
	g := Gap{Since: since, Reason: why}
	n.outage.Store(&g)
	n.callGapHooks(g, func() {})
}
