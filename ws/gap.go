package ws

import (
	"fmt"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A GapPolicy selects what a server does for clients that might have missed something: see "Gaps" in the package
// documentation.
type GapPolicy uint8

const (
	// GapTell tells the clients.
	GapTell GapPolicy = iota
	// GapReconnect tells the clients, and then closes their connections with code 1012, as a drain does: in random
	// order, within the time that [Options.GapSpread] has for their queries. It is for clients that fetch everything
	// again when they connect, anyway. A client whose own queue has dropped something is only told. So are all clients
	// when the node's own link is lost; their connections are closed once it is back.
	GapReconnect
	// GapIgnore does nothing.
	GapIgnore
)

// checkGaps checks the options and sets the defaults.
func (o *Options) checkGaps() error {
	if o.Gaps > GapIgnore {
		return fmt.Errorf("crosscast/ws: Options.Gaps is %d: it must be one of GapPolicy", o.Gaps)
	}
	return nil
}

// handleGap is called before anything later is delivered, and must not wait.
func (s *Server) handleGap(g crosscast.Gap) {
	s.outage.Note(&g)
	most, sockets := s.ns.Affected(g)
	t := telling{s, wsconn.NoticeOf(&g), make(map[gapFrame][]byte)}
	t.notice.Wait = s.window(most)
	s.latestWindow.Store(int64(t.notice.Wait))
	reconnect := s.o.Gaps == GapReconnect && !wsconn.IsOutage(&g)
	for socket, rooms := range sockets {
		c, ok := socket.Conn().(*conn)
		if !ok || c.server != s {
			continue
		}
		if rooms == nil {
			t.tell(c, socket, "")
		}
		for _, room := range rooms {
			t.tell(c, socket, room)
		}
		if reconnect && !c.sentAway.Swap(true) {
			wsconn.SendAway(socket, t.notice.Wait)
		}
	}
}

// window returns the time within which a number of clients may query the application.
func (s *Server) window(clients int) time.Duration { return wsconn.GapWindow(s.o.GapSpread, clients) }

// tellOutage tells a new client of an outage that goes on.
func (s *Server) tellOutage(c *conn, socket *crosscast.Socket) {
	s.outage.Tell(func(g wsconn.GapNotice) {
		t := telling{s, g, make(map[gapFrame][]byte)}
		t.tell(c, socket, "")
	})
}

// A telling is what a server's clients are told of one gap. Clients share the frames.
type telling struct {
	server *Server
	notice wsconn.GapNotice    // without a Room
	frames map[gapFrame][]byte // nil: the Envelope makes none
}

type gapFrame struct {
	room   string // empty: everything
	format wsconn.Format
}

// tell tells a client of one room or, if room is empty, of everything.
func (t *telling) tell(c *conn, socket *crosscast.Socket, room string) {
	key := gapFrame{room, c.Format}
	frame, made := t.frames[key]
	if !made {
		control := controlOf(t.notice)
		control.Room = room
		if payload := t.server.gapMessage(socket, c.Format.Form, control); len(payload) > 0 {
			frame = c.Format.Append(nil, t.server.typeOf(c.Format.Form), payload)
		}
		t.frames[key] = frame
	}
	if frame != nil {
		notice := t.notice
		notice.Room = room
		c.SendGap("", notice, frame)
	}
}

// gapMessage makes the message of a ControlGap; nil: there is none. socket may be nil.
func (s *Server) gapMessage(socket *crosscast.Socket, form uint8, c Control) (payload []byte) {
	c.Kind = ControlGap
	err := guard.Call(func() (err error) { _, payload, err = s.control(form, c); return err })
	if err != nil {
		s.report(socket, "", err)
		return nil
	}
	return payload
}

// dropNotices makes the frames of a queue's notice: a message about everything, because the queue does not know what it
// drops, and what the client was not told of gaps that go on.
func (s *Server) dropNotices(c *wsconn.Conn, d crosscast.QueueDrop) (frames []byte) {
	everything := s.outage.Dropped(d.Since)
	everything.Wait = max(s.window(1000), time.Duration(s.latestWindow.Load()))
	for _, g := range append([]wsconn.GapNotice{everything}, c.TakeMissed("")...) {
		if payload := s.gapMessage(nil, c.Format.Form, controlOf(g)); len(payload) > 0 {
			frames = c.Format.Append(frames, s.typeOf(c.Format.Form), payload)
		}
	}
	return frames
}

// ownNotices makes the frame of the application's DropNotice, which is in the form of the Envelope.
func (s *Server) ownNotices(c *wsconn.Conn, d crosscast.QueueDrop) []byte {
	payload := s.o.Queue.DropNotice(d)
	if c.Format.Form == formMsgPack && payload != nil {
		payload, _ = mpack.AppendExactFromJSON(nil, payload) // nil beside an error
	}
	if payload == nil {
		return nil
	}
	return c.Format.Append(nil, s.typeOf(c.Format.Form), payload)
}

// tellMissed tells the client that it cannot get a message in the form of its connection.
func (c *conn) tellMissed() {
	if c.server.o.Gaps == GapIgnore {
		return
	}
	now := time.Now()
	t := telling{c.server, wsconn.GapNotice{Since: now, Until: now, Wait: c.server.window(1)}, make(map[gapFrame][]byte)}
	t.tell(c, nil, "")
}

func controlOf(g wsconn.GapNotice) Control {
	return Control{Room: g.Room, Since: g.Since, Until: g.Until, Ends: g.Ends, Wait: g.Wait}
}
