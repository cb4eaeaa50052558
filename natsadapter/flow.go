package natsadapter

import (
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// flow holds the reading of a link up while the adapter is behind, so that the server notices a slow consumer, as it
// does with any other client: it ends the connection, which is a gap. nats.go itself would drop messages.
type flow struct {
	events  chan *nats.Msg // the events that the adapter has not taken
	bytes   atomic.Int64   // read, and not taken; 0 whenever events is empty
	blocked atomic.Bool
	room    chan struct{} // capacity 1: there might be room again
	denied  chan struct{} // capacity 1: the server has refused something
}

const (
	maxEvents = 1 << 13       // one read has at most 2,500 messages
	highWater = maxEvents / 2 // events from which nothing is read
	maxBytes  = 16 << 20      // bytes from which nothing is read
	overhead  = int64(len("MSG  1000000  1000\r\n\r\n"))
)

func newFlow() *flow {
	return &flow{events: make(chan *nats.Msg, maxEvents), room: make(chan struct{}, 1), denied: make(chan struct{}, 1)}
}

// full reports whether the adapter is behind. A message that is larger than maxBytes is read nevertheless.
func (f *flow) full() bool {
	n := len(f.events)
	return n > highWater || n > 0 && f.bytes.Load() > maxBytes
}

// wait returns when there is room for the next read.
func (f *flow) wait(done <-chan struct{}) {
	for f.full() {
		f.blocked.Store(true)
		if !f.full() {
			break
		}
		select {
		case <-f.room:
		case <-done:
			return
		}
	}
	f.blocked.Store(false)
}

// took notes that the adapter has taken m.
func (f *flow) took(m *nats.Msg) {
	if len(f.events) == 0 {
		f.bytes.Store(0)
	} else {
		f.bytes.Add(-int64(len(m.Subject)+len(m.Reply)+len(m.Data)) - overhead)
	}
	if f.blocked.Load() && !f.full() {
		signal(f.room)
	}
}

// refused notes a refusal of the server.
func (f *flow) refused() { signal(f.denied) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
