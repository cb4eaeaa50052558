package crosscast

import "sync"

// reasonNames are the reasons of this package. The last one stands for texts of the application's.
var reasonNames = [...]Reason{
	ReasonLeft, ReasonServer, ReasonShutdown, ReasonDrained, ReasonSlow, ReasonTimeout, ReasonProtocol, ReasonInternal,
	ReasonExpired, ReasonFlood, ReasonReplaced, "application",
}

func (c *counters) disconnect(reason Reason) {
	i := 0
	for i < len(reasonNames)-1 && reasonNames[i] != reason {
		i++
	}
	c.disconnects[i].Add(1)
}

// queued is a conn with a queue: a Queue, or one that embeds it. Nothing is counted while it writes: its own counters are
// read when somebody wants the sum.
type queued interface{ Stats() QueueStats }

// queueTotals are the sums over queues of sockets that were closed.
type queueTotals struct {
	mu     sync.Mutex // guards the following fields
	closed QueueStats
	told   QueueStats // the latest sum of counters
}

// addQueue adds the queue of conn, if it has one, to sum.
func (n *Node) addQueue(sum *QueueStats, conn Conn) {
	if q, ok := conn.(queued); ok {
		defer n.caught("Conn.Stats")
		s := q.Stats()
		sum.add(&s)
	}
}

// socketEnded is called once for each socket that was closed, when its conn and handlers have ended.
func (n *Node) socketEnded(s *Socket) {
	var sum QueueStats
	n.addQueue(&sum, s.conn)
	t := &n.stats.queues
	t.mu.Lock()
	t.closed.add(&sum)
	t.mu.Unlock()
	n.sockets.Done()
}

// sum returns the sums over all queues. The queue of a socket that is just being closed is missing for a moment: the
// counters stay as they were until it is back.
func (t *queueTotals) sum(n *Node) QueueStats {
	var open QueueStats
	for ns := range n.spaces.all() {
		for _, s := range ns.everySocket() {
			n.addQueue(&open, s.conn)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	open.add(&t.closed)
	told := &t.told
	told.WrittenFrames, told.WrittenBytes = max(told.WrittenFrames, open.WrittenFrames), max(told.WrittenBytes, open.WrittenBytes)
	told.Dropped, told.Starts = max(told.Dropped, open.Dropped), max(told.Starts, open.Starts)
	told.HighWater = max(told.HighWater, open.HighWater)
	open.WrittenFrames, open.WrittenBytes = told.WrittenFrames, told.WrittenBytes
	open.Dropped, open.Starts, open.HighWater = told.Dropped, told.Starts, told.HighWater
	return open
}

func (s *QueueStats) add(o *QueueStats) {
	s.QueuedFrames += o.QueuedFrames
	s.QueuedBytes += o.QueuedBytes
	s.BatchFrames += o.BatchFrames
	s.BatchBytes += o.BatchBytes
	s.HighWater = max(s.HighWater, o.HighWater)
	s.WrittenFrames += o.WrittenFrames
	s.WrittenBytes += o.WrittenBytes
	s.Dropped += o.Dropped
	s.Starts += o.Starts
}
