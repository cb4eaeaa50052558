package crosscast

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// A crew serves large deliveries on several cores. The goroutine that delivers serves the sockets from the front,
// and returns when all are served, so the order of deliveries is what it is without a crew. Meanwhile helpers serve
// parts from the back: a core that delivers to the same sockets again finds them in its caches.
//
// A helper is a goroutine that exists only while a delivery has parts that nobody serves. After each part it lets
// other goroutines run, so that a large delivery holds them up for one part at most. A delivery waits only for a helper
// that serves one of its parts, and not for one that waits for a core.
type crew struct {
	node *Node
	help func() // constant: c.run, bound once so that starting it allocates nothing

	mu      sync.Mutex  // guards the following fields, and e.rest and e.all.refused of the emissions
	large   []*emission // those with sockets that nobody serves yet
	helpers int
}

// A delivery to largeDelivery sockets or more is served in parts of at most partSize. Helpers take part if the sockets
// of the first part took cheapSocket each, or more. Below either number, another core costs more than it saves: it has
// to be woken, and both cores wait for each other's memory. Tests change the numbers.
var (
	largeDelivery, partSize = 65_536, 2048
	cheapSocket             = 10 * time.Nanosecond
)

func (c *crew) init(n *Node) { c.node, c.help = n, c.run }

// serve hands e.msg to all recipients.
func (c *crew) serve(e *emission) {
	e.rest = e.all
	defer e.helped.Wait() // also if a conn ends the goroutine
	c.serveFront(e)
}

// share lets helpers serve e from now on, and starts some if there are too few.
func (c *crew) share(e *emission) {
	most := min(runtime.GOMAXPROCS(0), e.all.end/partSize) - 1
	if most == 0 {
		return
	}
	c.mu.Lock()
	more := 0
	if e.rest.at < e.rest.end {
		c.large = append(c.large, e)
		more = max(0, most-c.helpers)
		c.helpers += more
	}
	c.mu.Unlock()
	for range more {
		c.start()
	}
}

// start starts a helper, which is already counted, unless the node is closed.
func (c *crew) start() {
	n := c.node
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() == nodeClosed {
		c.mu.Lock()
		c.helpers--
		c.mu.Unlock()
		return
	}
	n.jobs.running.Add(1)
	go c.help()
}

// serveFront serves parts of e until none is left. A conn that ends the goroutine does not keep it from the others.
func (c *crew) serveFront(e *emission) {
	all := false
	defer func() {
		if !all {
			c.serveFront(e)
		}
	}()
	for p, ok := c.front(e); ok; p, ok = c.front(e) {
		began := time.Now()
		c.servePart(e, p)
		if p.from == 0 && time.Since(began) >= time.Duration(p.end)*cheapSocket {
			c.share(e)
		}
	}
	all = true
}

// front takes a part of e.
func (c *crew) front(e *emission) (p stretch, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.rest.at == e.rest.end {
		return p, false
	}
	p = stretch{from: e.rest.at, at: e.rest.at, end: min(e.rest.at+partSize, e.rest.end)}
	e.rest.at = p.end
	c.checkLocked(e)
	return p, true
}

// back takes a part of the emission that has waited longest. If there is none, the helper ends.
func (c *crew) back() (e *emission, p stretch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.large) == 0 {
		return nil, p
	}
	e = c.large[0]
	from := max(e.rest.end-partSize, e.rest.at)
	p = stretch{from: from, at: from, end: e.rest.end}
	e.rest.end = from
	e.helped.Add(1)
	c.checkLocked(e)
	return e, p
}

// checkLocked takes e out of the list, if it is there, once nothing of it is left to take.
func (c *crew) checkLocked(e *emission) {
	if e.rest.at < e.rest.end {
		return
	}
	if i := slices.Index(c.large, e); i >= 0 {
		c.large = slices.Delete(c.large, i, i+1)
	}
}

// servePart hands e.msg to the sockets of p.
func (c *crew) servePart(e *emission, p stretch) {
	defer func() {
		if p.refused > 0 {
			c.mu.Lock()
			e.all.refused += p.refused
			c.mu.Unlock()
		}
	}()
	e.handOn(c.node, &p, nil)
}

// run is a helper.
func (c *crew) run() {
	defer c.node.jobs.running.Done()
	defer func() {
		c.mu.Lock()
		c.helpers--
		c.mu.Unlock()
	}()
	for e, p := c.back(); e != nil; e, p = c.back() {
		c.helpWith(e, p)
		runtime.Gosched()
	}
}

func (c *crew) helpWith(e *emission, p stretch) {
	defer e.helped.Done() // also if a conn ends the goroutine
	c.servePart(e, p)
}
