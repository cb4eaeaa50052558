package wsconn

import (
	"errors"
	"time"

	"github.com/crosscast/crosscast"
)

// missed has the beginnings and ends of gaps that a client was not told of, because it did not keep up. Its next notice
// of a drop is about everything until now, and would lose them.
type missed map[missedKey]GapNotice

type missedKey struct{ space, room string }

// maxMissed is the number of them from which further ones become one of everything.
const maxMissed = 16

// SendGap sends the frame of a notice in a namespace. If the client does not keep up, the next notice of a drop has it.
func (c *Conn) SendGap(space string, g GapNotice, frame []byte) {
	if g.outage || !g.Until.IsZero() && !g.Ends { // a notice of a drop has that
		_ = c.Queue.SendNotice(frame, g.Since) // the queue handles slow clients
		return
	}
	key := missedKey{space, g.Room}
	own := c.noteMissed(key, g) // before, because the queue might make the notice at once
	if err := c.Queue.SendNotice(frame, g.Since); own && !errors.Is(err, crosscast.ErrDropped) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if delete(c.missed, key); len(c.missed) == 0 {
			c.missed = nil
		}
	}
}

// noteMissed reports whether the note is only that of g, and of earlier notices of the same room.
func (c *Conn) noteMissed(key missedKey, g GapNotice) (own bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.missed[key]
	own = !known || key.room != ""
	if !known && len(c.missed) >= maxMissed {
		own, key.room, g.Room = false, "", ""
		before, known = c.missed[key]
	}
	if known {
		g.Since = earlier(g.Since, before.Since)
		if key.room == "" && before.Until.IsZero() { // maybe of another room
			g.Until, g.Ends = time.Time{}, false
		}
	}
	if c.missed == nil {
		c.missed = make(missed)
	}
	c.missed[key] = g
	return own
}

// TakeMissed returns what a notice of a drop has to tell, too.
func (c *Conn) TakeMissed(space string) (notices []GapNotice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, g := range c.missed {
		if key.space == space {
			notices = append(notices, g)
			delete(c.missed, key)
		}
	}
	return notices
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
