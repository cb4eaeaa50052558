package wire

import "github.com/crosscast/crosscast"

// How many bytes instructions may take, before they are written.

// overhead is that of the longest header of a string, array or number of 32 bits.
const overhead = 5

func answerBound(a *crosscast.Answer) int {
	if a == nil {
		return 0
	}
	n := 16*overhead + len(a.Err) + 8*len(a.Users) + len(a.Payload.Data)
	for i := range a.Sockets {
		s := &a.Sockets[i]
		n += 6*overhead + len(s.ID) + len(s.User) + len(s.Data) + len(s.Handshake)
		for _, r := range s.Rooms {
			n += overhead + len(r)
		}
	}
	for i := range a.Rooms {
		n += 4*overhead + len(a.Rooms[i].Room)
	}
	for i := range a.Replies {
		n += 3*overhead + len(a.Replies[i].Socket) + len(a.Replies[i].Payload.Data)
	}
	return n
}

// instructionBound is at least the encoded size of in.
func instructionBound(in *crosscast.Instruction) int {
	n := 24*overhead + len(in.Namespace) + len(in.Event) + len(in.Payload.Data) + len(in.Node.Name)
	t := &in.Target
	for _, list := range [...][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers} {
		for _, s := range list {
			n += len(s) + overhead
		}
	}
	n += (len(t.Sockets) + len(t.ExceptSockets)) * (20 + overhead)
	for _, r := range in.Rooms {
		n += len(r) + overhead
	}
	n += len(in.Reason) + len(in.Ref) + answerBound(in.Answer)
	if in.Presence != nil {
		n += 16*overhead + 9*(len(in.Presence.Sums)+len(in.Presence.Versions))
		for i := range in.Presence.Changes {
			c := &in.Presence.Changes[i]
			n += 3*overhead + len(c.Socket) + len(c.User)
		}
	}
	for _, kv := range in.Meta {
		n += len(kv.Key) + len(kv.Value) + 2*overhead
	}
	return n
}
