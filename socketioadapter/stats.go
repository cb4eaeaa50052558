package socketioadapter

import (
	"errors"

	"github.com/crosscast/crosscast"
)

// dropReason is the reason for dropping a query of a peer, or an answer to a query. Package wire counts unreadable
// messages, as foreign or malformed.
type dropReason uint8

const (
	dropRepeated   dropReason = iota // a query that is open already
	dropTooMany                      // a query beyond maxQuestions
	dropTooLarge                     // an answer beyond maxQuestionBytes, or MaxFrame
	dropForgotten                    // a part of an answer to a query that is not open any more
	dropUnasked                      // an answer to a query that this node did not make, or has ended
	dropReply                        // a client's reply that this wire cannot carry
	dropHandshakes                   // the handshakes of one answer, which would be too large with them
	dropReasons
)

var (
	dropNames  = [dropReasons]string{"question repeated", "questions", "answers", "question gone", "answer unasked", "reply", "handshakes"}
	dropErrors = [dropReasons]error{errRepeated, errTooMany, errTooLarge, errForgotten, errUnasked, errReply}
)

// drop counts err by its reason.
func (d *dialect) drop(err error) {
	for r, e := range dropErrors {
		if e != nil && errors.Is(err, e) {
			d.dropped[r].Add(1)
		}
	}
}

// addDropped adds the counters to all, by name.
func (d *dialect) addDropped(all map[string]uint64) {
	for r, name := range dropNames {
		if n := d.dropped[r].Load(); n > 0 {
			all[name] += n
		}
	}
}

// AdapterStats implements crosscast.AdapterMeter.
func (a *Adapter) AdapterStats() crosscast.AdapterStats {
	s := a.Adapter.AdapterStats()
	a.dialect.addDropped(s.Dropped)
	return s
}
