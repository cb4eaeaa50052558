package crosscast

import "slices"

// OnGap has f called with the part of each [Gap] that concerns the namespace: its Names are those of the namespace, or
// nil, which is all. It is for bindings, which may keep something of each client that a gap makes stale. Functions are
// called in the order in which they were given to OnGap, before Options.OnGap, on the same goroutine and under the same
// rules: they must not wait for anything.
//
// They are called until the node is closed. [ErrClosed]: it is being closed, and f is not called. An emitter has no
// gaps ([ErrEmitOnly]).
func (ns *Namespace) OnGap(f func(g Gap)) error {
	n := ns.node
	if n.deaf != nil {
		return n.deaf
	}
	return n.register(func() { n.gapHooks = append(slices.Clip(n.gapHooks), gapHook{ns, f}) })
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

// callGapHooks calls the functions of Namespace.OnGap, and Options.OnGap after them.
func (n *Node) callGapHooks(g Gap) {
	n.mu.Lock()
	hooks := n.gapHooks
	n.mu.Unlock()
	inTurn(len(hooks)+1, func(i int) {
		if i < len(hooks) {
			if part, concerns := g.part(hooks[i].ns.name); concerns {
				n.call("Namespace.OnGap", func() { hooks[i].f(part) })
			}
		} else if n.hooks.onGap != nil {
			n.call("Options.OnGap", func() { n.hooks.onGap(n, g) })
		}
	})
}
