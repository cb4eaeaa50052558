package enum_test

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
	"github.com/crosscast/crosscast/wire"
	"github.com/crosscast/crosscast/ws"
)

// TestStrings: every value of every enumeration has a name, and others are numbers.
func TestStrings(t *testing.T) {
	check(t, crosscast.NodeJoined, crosscast.NodeExpired)
	check(t, crosscast.RoomCreated, crosscast.RoomsChanged)
	check(t, crosscast.QueueDisconnect, crosscast.QueueDropOldest)
	check(t, crosscast.EncodingNone, crosscast.EncodingMsgPack)
	check(t, crosscast.SpaceRoom, crosscast.SpaceNamespace)
	check(t, kind.Emit, kind.Presence)
	check(t, kind.AskSockets, kind.AskStats)
	check(t, wire.Message, wire.Denied)
	check(t, ws.EventPause, ws.EventClose)
	check(t, ws.GapTell, ws.GapIgnore)
	check(t, ws.ControlReply, ws.ControlPresence)
	check(t, socketio.EventPause, socketio.EventClose)
	check(t, socketio.GapTell, socketio.GapIgnore)
	check(t, socketioadapter.Classic, socketioadapter.Sharded)
	check(t, socketioadapter.Dynamic, socketioadapter.DynamicPrivate)
}

func check[V interface {
	~uint8
	fmt.Stringer
}](t *testing.T, first, last V) {
	t.Helper()
	seen := make(map[string]bool)
	for v := first; v <= last; v++ {
		name := v.String()
		if name == fmt.Sprint(uint8(v)) || seen[name] {
			t.Errorf("%T %d is called %q", v, uint8(v), name)
		}
		seen[name] = true
	}
	if name := (last + 1).String(); name != fmt.Sprint(uint8(last+1)) {
		t.Errorf("%T has an unknown value %q: the test does not go on to the last", last, name)
	}
}
