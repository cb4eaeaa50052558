package socketio

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// A GapPolicy selects what a server does for clients that might have missed something: see "Gaps" in the package
// documentation.
type GapPolicy uint8

const (
	// GapTell tells the clients, by Options.GapEvent. Without that, it does nothing.
	GapTell GapPolicy = iota
	// GapReconnect tells the clients, if Options.GapEvent is set, and then closes their whole connections with code 1012,
	// as a drain does: in random order, within the time that [Options.GapSpread] has for their queries. They come back by
	// their own back-off. It is for clients that fetch everything again when they connect, anyway. A client whose own
	// queue has dropped something is only told. So are all clients when the node's own link is lost; their connections
	// are closed once it is back.
	GapReconnect
	// GapIgnore does nothing.
	GapIgnore
)

// checkGaps checks the options of gaps.
func (o *Options) checkGaps() error {
	if o.Gaps > GapIgnore {
		return fmt.Errorf("crosscast/socketio: Options.Gaps is %d: it must be one of GapPolicy", o.Gaps)
	}
	if isReserved(o.GapEvent) || len(o.GapEvent) > limit.Name {
		return fmt.Errorf("crosscast/socketio: Options.GapEvent %.64q is reserved, or not a name of up to 255 bytes", o.GapEvent)
	}
	return nil
}

// tellsGaps reports whether clients are told of gaps.
func (o *Options) tellsGaps() bool { return o.GapEvent != "" && o.Gaps != GapIgnore }

// startGaps has the server hear of gaps.
func (s *Server) startGaps() error {
	if !s.o.tellsGaps() && s.o.Gaps != GapReconnect {
		return nil
	}
	for _, sp := range s.spaces {
		if err := sp.ns.OnGap(func(g crosscast.Gap) { s.handleGap(sp, g) }); err != nil {
			return err
		}
	}
	return nil
}

// handleGap is called before anything later is delivered, and must not wait. Clients share the packets.
func (s *Server) handleGap(sp *space, g crosscast.Gap) {
	type key struct {
		room   string // empty: everything
		format wsconn.Format
	}
	sp.outage.Note(&g)
	most, sockets := sp.ns.Affected(g)
	wait := wsconn.GapWindow(s.o.GapSpread, most)
	s.latestWindow.Store(int64(wait))
	notice := wsconn.NoticeOf(&g)
	notice.Wait = wait
	frames := make(map[key][]byte)
	tell := func(socket *crosscast.Socket, c *session, room string) {
		if !s.o.tellsGaps() {
			return
		}
		k := key{room, c.conn.Format}
		frame, notice := frames[k], notice
		notice.Room = room
		if frame == nil {
			frame = k.format.Append(nil, s.config.Type, s.gapPacket(sp.name, notice))
			frames[k] = frame
		}
		c.tell(socket, notice, frame)
	}
	reconnect := s.o.Gaps == GapReconnect && !wsconn.IsOutage(&g)
	for socket, rooms := range sockets {
		c, ok := socket.Conn().(*session)
		if !ok || c.conn.server != s {
			continue
		}
		if rooms == nil {
			tell(socket, c, "")
		}
		for _, room := range rooms {
			tell(socket, c, room)
		}
		if reconnect && !c.conn.sentAway.Swap(true) {
			wsconn.SendAway(socket, wait)
		}
	}
}

// gapPacket makes the event of a gap.
func (s *Server) gapPacket(namespace string, g wsconn.GapNotice) []byte {
	event, _ := json.Marshal(s.o.GapEvent) // a string has no errors
	b := appendHeader(make([]byte, 0, headerSize(namespace)+len(event)+len(g.Room)+64), emission, namespace, 0, 0, false)
	b = append(append(append(b, '['), event...), ',')
	return append(wsconn.AppendGap(b, g), ']')
}

// dropNotices makes the packets of a queue's notice: one event for each namespace of the server, because the queue does
// not know what it drops, and what the client was not told of gaps that go on. Clients ignore those of namespaces that
// they are not in.
func (s *Server) dropNotices(c *wsconn.Conn, d crosscast.QueueDrop) (frames []byte) {
	wait := max(wsconn.GapWindow(s.o.GapSpread, 1000), time.Duration(s.latestWindow.Load()))
	for name, sp := range s.spaces {
		everything := sp.outage.Dropped(d.Since)
		everything.Wait = wait
		for _, g := range append([]wsconn.GapNotice{everything}, c.TakeMissed(name)...) {
			frames = c.Format.Append(frames, s.config.Type, s.gapPacket(name, g))
		}
	}
	return frames
}

// tellOutage tells a client that connects of an outage that goes on.
func (s *session) tellOutage(socket *crosscast.Socket) {
	server := s.conn.server
	if !server.o.tellsGaps() {
		return
	}
	s.space.outage.Tell(func(g wsconn.GapNotice) {
		frame := s.conn.Format.Append(nil, server.config.Type, server.gapPacket(s.space.name, g))
		s.tell(socket, g, frame)
	})
}

// tell tells the client of a gap. While the client is not connected, the packet waits as emissions do.
func (s *session) tell(socket *crosscast.Socket, g wsconn.GapNotice, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.now.Load() {
	case open:
		s.conn.SendGap(s.space.name, g, frame)
	case connecting:
		if s.bytes += len(frame); s.bytes > maxHeld && len(s.held) > 0 {
			go socket.Close(crosscast.ReasonSlow) // not here, because that is the application's code
			return
		}
		s.held = append(s.held, frame)
	}
}
