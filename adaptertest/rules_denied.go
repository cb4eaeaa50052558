package adaptertest

import (
	"errors"
	"slices"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// Rules about names that the bus denies to one node.
var deniedRules = []rule{
	{
		name: "denied-join",
		text: "If the bus denies a name, Join, Connect, Subscribe and Add of it fail with ErrDenied, and nothing happens. " +
			"Other names can be joined. Once the name is allowed it can be joined like any other.",
		needs:      needsDeny,
		capability: CapInterest,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			b.needSubscriber(n1)
			b.connect(n0, connect{Rooms: []string{"open", "later"}})
			c := b.connect(n1, connect{Rooms: []string{"open"}})
			b.cluster.Deny(n1.index, room(deniedName), true)
			b.refused(c)
			if slices.Contains(c.Rooms(), deniedName) {
				b.Error("a Join that failed has put the socket in the room")
			}
			if _, err := b.tryConnect(n1, "/", connect{Rooms: []string{deniedName}}); !errors.Is(err, crosscast.ErrDenied) {
				b.Errorf("Connect with a room that the bus denies returned %v instead of ErrDenied", err)
			}
			if _, _, err := b.trySubscribe(b.ctx, n1, "open", deniedName); !errors.Is(err, crosscast.ErrDenied) {
				b.Errorf("Subscribe with a room that the bus denies returned %v instead of ErrDenied", err)
			}
			sub, s, err := b.trySubscribe(b.ctx, n1, "later")
			b.must(err)
			if err := sub.Add(b.ctx, "open", deniedName); !errors.Is(err, crosscast.ErrDenied) {
				b.Errorf("Add with a room that the bus denies returned %v instead of ErrDenied", err)
			}
			b.must(c.Join(b.ctx, "later"))
			b.emit(n0.To(deniedName), "denied")
			b.emit(n1.To(deniedName), "denied")
			b.emit(n0.To("open"), "open")
			b.emit(n0.To("later"), "later")
			b.settle()
			c.wantAnyOrder("open", "later")
			s.wait("later", 1)
			s.want("later")
			b.cluster.Deny(n1.index, room(deniedName), false)
			b.eventually("joining a room that is not denied any more", func() bool { return c.Join(b.ctx, deniedName) == nil })
			b.must(c.Synced(b.ctx))
			b.emit(n0.To(deniedName), "allowed")
			c.wait("allowed", 1)
		},
	},
	{
		name: "denied-revoked",
		text: "If the bus begins to deny a subscribed name, that is a gap at once, of that name alone and without an " +
			"end. Joining the name fails with ErrDenied. Other names are still received. Once the name is allowed " +
			"again there is another gap, with the same beginning and an end, and the name is received.",
		needs:      needsDeny,
		capability: CapInterest,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			b.needSubscriber(n1)
			b.connect(n0, connect{Rooms: []string{"open"}})
			c, other := b.connect(n1, connect{Rooms: []string{"open", deniedName}}), b.connect(n1, connect{})
			var begun, ended crosscast.Gap
			gap := func(over bool, g *crosscast.Gap) func() bool {
				return func() bool {
					for _, e := range c.log.take() {
						if e.gap != nil && e.gap.Reason == reasons.GapDenied && e.gap.Until.IsZero() != over {
							*g = *e.gap
							return true
						}
					}
					return false
				}
			}
			b.cluster.Deny(n1.index, room(deniedName), true)
			b.eventually("the gap of a room that is denied", gap(false, &begun))
			if !begun.Covers(room(deniedName)) || begun.Covers(room("open")) {
				b.Errorf("the gap of one room that is denied has the names %v", begun.Names)
			}
			b.refused(other)
			b.emit(n0.To("open"), "open")
			c.wait("open", 1)
			b.cluster.Deny(n1.index, room(deniedName), false)
			b.eventually("the end of the gap, once the room is allowed", gap(true, &ended))
			if !ended.Covers(room(deniedName)) || !ended.Since.Equal(begun.Since) {
				b.Errorf("the gap that has ended is of %v, since %v, and the one that went on of %v, since %v",
					ended.Names, ended.Since, begun.Names, begun.Since)
			}
			b.emit(n0.To(deniedName), "allowed")
			c.wait("allowed", 1)
		},
	},
}

// deniedName is the room that the bus denies; see Cluster.Deny.
const deniedName = "denied"

// refused returns when joining the denied room fails with ErrDenied, and checks that the error names the room. It
// waits, because the denial might have ended a link, which must be replaced first.
func (b *bed) refused(c *client) {
	b.Helper()
	var err error
	b.eventually("joining a room that the bus denies fails with ErrDenied", func() bool {
		if err = c.Join(b.ctx, deniedName); err == nil {
			c.Leave(deniedName)
		}
		return errors.Is(err, crosscast.ErrDenied)
	})
	var names *crosscast.NamesError
	if !errors.As(err, &names) || len(names.Failed) != 1 || names.Failed[room(deniedName)] == nil {
		b.Errorf("joining a room that the bus denies returned %v, which does not name it", err)
	}
}
