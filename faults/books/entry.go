// Package books balances what nodes have sent against what they have received and reported, from a ledger: JSON lines, in
// the order in which each node wrote them.
package books

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// An Entry is a line of a ledger. Times are nanoseconds since 1970, by the clock of the machine that all processes share.
type Entry struct {
	At   int64  `json:"at"`
	Is   What   `json:"is"`
	Node string `json:"node,omitempty"` // ID of the node that wrote it
	Text string `json:"text,omitempty"`

	Room   string  `json:"room,omitempty"`
	Origin string  `json:"origin,omitempty"` // ID
	From   int64   `json:"from,omitempty"`   // numbers of a room's emissions, from 1
	To     int64   `json:"to,omitempty"`
	Times  []int64 `json:"times,omitempty"`  // Sent: when Emit was called, for each number
	Failed []int64 `json:"failed,omitempty"` // Sent: the numbers that Emit refused

	Gap   *Gap   `json:"gap,omitempty"`
	Loss  *Loss  `json:"loss,omitempty"`
	Run   *Run   `json:"run,omitempty"`
	Allow *Allow `json:"allow,omitempty"`
}

// What an entry is about.
type What string

// Entries of the nodes.
const (
	Start What = "start" // Text is the node's name
	Join  What = "join"  // the node's client is in Room from now on
	Leave What = "leave" // and is not, from now on
	Sent  What = "sent"  // the node's emissions From to To, to Room
	Got   What = "got"   // the node's client received Origin's emissions From to To, to Room, without anything between
	Heard What = "heard" // the node's client has received Origin's emissions up to To, to Room, in an earlier ledger
	GapOf What = "gap"
	Lost  What = "loss"
	Peer  What = "peer" // Origin is the peer, Text what became of it
	Link  What = "link" // Text: "live", or the states of both halves
	End   What = "end"  // the node has closed: what it had sent is out or lost, and it receives nothing more
	Gone  What = "gone" // the node was killed
	Shut  What = "shut" // the node's client was closed; Text is why
)

// Entries of the run.
const (
	Begin  What = "begin"  // the first entry
	Fault  What = "fault"  // Text is done to something
	Mended What = "mended" // and is over
	Permit What = "permit" // Allow are gaps that the faults explain
)

// Run is what a ledger is about.
type Run struct {
	Row       string        `json:"row"`
	Server    string        `json:"server"`
	Heartbeat time.Duration `json:"heartbeat"`
	Seed      uint64        `json:"seed"`
	Short     bool          `json:"short"`
	// Margin is by how much a gap may be longer than what was missed, if that is more than two heartbeats.
	Margin time.Duration `json:"margin,omitempty"`
}

// A Gap is a crosscast.Gap.
type Gap struct {
	Origin string   `json:"origin,omitempty"`
	All    bool     `json:"all,omitempty"` // all rooms
	Rooms  []string `json:"rooms,omitempty"`
	Since  int64    `json:"since"`
	Until  int64    `json:"until,omitempty"` // 0: it goes on
	Reason string   `json:"reason"`
}

// A Loss is a crosscast.Loss.
type Loss struct {
	Instructions int    `json:"instructions"`
	Uncertain    bool   `json:"uncertain,omitempty"`
	Reason       string `json:"reason"`
}

// An Allow permits gaps. Empty fields permit any.
type Allow struct {
	Nodes   []string `json:"nodes,omitempty"`   // names of the nodes that may report them
	Origins []string `json:"origins,omitempty"` // names of the nodes whose emissions they may concern; "" is all at once
	Rooms   []string `json:"rooms,omitempty"`   // the only rooms that they may concern
	Reasons []string `json:"reasons,omitempty"`
	Most    int      `json:"most,omitempty"`  // how many of them each node may report; 0: any number
	Stood   bool     `json:"stood,omitempty"` // Redis stood still, and might have held what tells of them for as long
	Loose   bool     `json:"loose,omitempty"` // their span is not compared with that of the fault
}

// A Ledger is the entries of a run. Its methods may be called concurrently.
type Ledger struct {
	mu      sync.Mutex // guards what follows
	w       io.Writer
	entries []Entry
	grown   chan struct{}
}

// NewLedger returns an empty ledger, whose entries are also written to w.
func NewLedger(w io.Writer) *Ledger { return &Ledger{w: w, grown: make(chan struct{})} }

// Add adds an entry.
func (l *Ledger) Add(e Entry) {
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // there is nothing in it that cannot be marshalled
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(append(line, '\n'))
	l.entries = append(l.entries, e)
	close(l.grown)
	l.grown = make(chan struct{})
}

// Entries returns the entries so far. They are not to be changed.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[:len(l.entries):len(l.entries)]
}

// Len is the number of entries so far.
func (l *Ledger) Len() int { return len(l.Entries()) }

// Wait returns the first entry from the given one on that matches. ok is false when there is none in time.
func (l *Ledger) Wait(from int, within time.Duration, match func(*Entry) bool) (e Entry, ok bool) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		all, grown := l.entries, l.grown
		l.mu.Unlock()
		for ; from < len(all); from++ {
			if match(&all[from]) {
				return all[from], true
			}
		}
		select {
		case <-grown:
		case <-timeout.C:
			return Entry{}, false
		}
	}
}

// Read reads the entries of a ledger.
func Read(r io.Reader) ([]Entry, error) {
	var all []Entry
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e Entry
			if err := json.Unmarshal(line, &e); err != nil {
				return all, fmt.Errorf("line %d: %w", n, err)
			}
			all = append(all, e)
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}
