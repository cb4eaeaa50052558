package wire

import "github.com/crosscast/crosscast"

// This file has upper bounds for the encoded sizes of instructions, in bytes.

// overhead is the length of the longest header of a string, array or 32-bit number.
const overhead = 5

// answerBound returns at least the encoded size of a.
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

// instructionBound returns at least the encoded size of inst.
func instructionBound(inst *crosscast.Instruction) int {
	n := 24*overhead + len(inst.Namespace) + len(inst.Event) + len(inst.Payload.Data) + len(inst.Node.Name)
	t := &inst.Target
	for _, list := range [...][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers} {
		for _, s := range list {
			n += len(s) + overhead
		}
	}
	n += (len(t.Sockets) + len(t.ExceptSockets)) * (20 + overhead)
	for _, r := range inst.Rooms {
		n += len(r) + overhead
	}
	n += len(inst.Reason) + len(inst.Ref) + answerBound(inst.Answer)
	if inst.Presence != nil {
		n += 16*overhead + 9*(len(inst.Presence.Sums)+len(inst.Presence.Versions))
		for i := range inst.Presence.Changes {
			c := &inst.Presence.Changes[i]
			n += 5*overhead + len(c.Socket) + len(c.User) + len(c.Presence)
		}
	}
	for _, kv := range inst.Meta {
		n += len(kv.Key) + len(kv.Value) + 2*overhead
	}
	return n
}
