package socketioadapter

import (
	"errors"

	"github.com/crosscast/crosscast"
)

// dropReason says why a question of a peer, or an answer to it, was dropped. What cannot be read at all package wire
// counts, as foreign or malformed.
type dropReason uint8

const (
	dropRepeated   dropReason = iota // a question that is open already
	dropTooMany                      // a question beyond maxQuestions
	dropTooLarge                     // an answer beyond maxQuestionBytes, or MaxFrame
	dropForgotten                    // a part of an answer to what is not open any more
	dropUnasked                      // an answer to what this node does not ask, or not any more
	dropReply                        // a client's reply that this wire cannot carry
	dropHandshakes                   // those of one answer, which would be too large with them
	dropReasons
)

var (
	dropNames  = [dropReasons]string{"question repeated", "questions", "answers", "question gone", "answer unasked", "reply", "handshakes"}
	dropErrors = [dropReasons]error{errRepeated, errTooMany, errTooLarge, errForgotten, errUnasked, errReply}
)

// drop counts what err is about.
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
