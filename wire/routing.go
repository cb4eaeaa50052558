package wire

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// This file spreads instructions over topics. Each way to do it has a number, which is a value of Options.Topics:
//
//	0         each room and each user has a topic of its own
//	1         all are on everyone's topic
//	n         rooms are on n topics, by the hashes of their names, and users on n others
//
// A node that changes from one way to another uses both: it publishes on the topics of both, as copies of one
// instruction, and hears the topics of both. So two nodes hear each other if they have one way in common.
//
// Rooms and users never share a topic, because topics of different kinds need an order between them: see topicKind.

const (
	ownTopics    = 0
	everyones    = 1
	maxShared    = 4096 // topics in a way
	maxGapNames  = 1024 // names in a gap of one topic; beyond that the gap is of all names
	sharedRooms  = ":hr:"
	sharedUsers  = ":hu:"
	routingBytes = 255 // of the text
)

// routing is how a node spreads names over topics.
type routing struct {
	ways []int
	text string // as peers are told; empty: ownTopics alone
}

func newRouting(o *Options) routing {
	r := routing{ways: append([]int{o.Topics}, o.AlsoTopics...)}
	if o.parts != "" || !slices.Equal(r.ways, []int{ownTopics}) {
		r.text = describeWays(r.ways, o.parts)
	}
	return r
}

// ownTopicsText stands for ownTopics in the text of a routing.
const ownTopicsText = "own"

// describeWays writes each way behind the parts.
func describeWays(ways []int, parts string) string {
	var words []string
	for _, w := range ways {
		word := ownTopicsText
		if w != ownTopics {
			word = strconv.Itoa(w)
		}
		words = append(words, parts+word)
	}
	return strings.Join(words, ",")
}

// checkTopics returns an error if the options of the routing are invalid.
func (o *Options) checkTopics() error {
	if o.Topics < 0 || o.Topics > maxShared {
		return fmt.Errorf("crosscast/wire: Options.Topics is %d: it must be from 0 to %d", o.Topics, maxShared)
	}
	if len(o.AlsoTopics) > 1 {
		return fmt.Errorf("crosscast/wire: Options.AlsoTopics has %d numbers: it may have one", len(o.AlsoTopics))
	}
	for _, n := range o.AlsoTopics {
		if n < 0 || n > maxShared || n == o.Topics {
			return fmt.Errorf("crosscast/wire: Options.AlsoTopics has %d: it must be from 0 to %d, and not Options.Topics", n, maxShared)
		}
	}
	return nil
}

// agrees reports whether this node and one with a routing of that text hear each other.
func (r *routing) agrees(text string) bool {
	if text == r.text {
		return true
	}
	theirs := strings.Split(cmp.Or(text, ownTopicsText), ",")
	return slices.ContainsFunc(strings.Split(cmp.Or(r.text, ownTopicsText), ","), func(way string) bool {
		return slices.Contains(theirs, way)
	})
}

// spread returns the topic of a name in one way.
func spread(name crosscast.Address, way int) destination {
	switch way {
	case ownTopics:
		return destination{name: name}
	case everyones:
		return destination{}
	default:
		hash := hashPart(hashPart(hashStart, name.Namespace)*hashPrime, name.Name)
		return destination{
			name: crosscast.Address{Space: name.Space}, of: uint16(way), index: uint16((hash ^ hash>>32) % uint64(way)),
		}
	}
}

// isShared reports whether several names share the topic.
func (d *destination) isShared() bool { return d.of != 0 }

// implied returns the name that an instruction without a target is for, on the topic.
func (d *destination) implied() *crosscast.Address {
	if d.isShared() {
		return &noName
	}
	return &d.name
}

// noName is the zero Address, and stays that.
var noName crosscast.Address

func (d *destination) appendShared(dst []byte, prefix string) []byte {
	dst = append(dst, prefix...)
	if d.name.Space == crosscast.SpaceUser {
		dst = append(dst, sharedUsers...)
	} else {
		dst = append(dst, sharedRooms...)
	}
	dst = strconv.AppendUint(dst, uint64(d.of), 10)
	return strconv.AppendUint(append(dst, ':'), uint64(d.index), 10)
}

// isSharedTopic reports whether the rest of a topic's name, from the colon after the prefix on, is that of a shared one.
func isSharedTopic(rest string) bool {
	return strings.HasPrefix(rest, sharedRooms) || strings.HasPrefix(rest, sharedUsers)
}

// topics appends the topics of a name that a node subscribes to for it.
func (r *routing) topics(dst []destination, name crosscast.Address) []destination {
	for _, w := range r.ways {
		if w != everyones { // which every node hears
			dst = append(dst, spread(name, w))
		}
	}
	return dst
}

// route appends the destinations of inst to dst. More than maxCopies topics become everyone's. If it appends nothing,
// inst concerns no node but self.
func (r *routing) route(dst []destination, inst *crosscast.Instruction, self crosscast.NodeID) []destination {
	if inst.To != "" {
		return append(dst, destination{node: inst.To})
	}
	t := &inst.Target
	if t.Everyone || inst.Kind != kind.Emit || inst.Ref != "" {
		return append(dst, destination{})
	}
	if len(t.Rooms)+len(t.Users) > maxCopies {
		return append(dst, destination{})
	}
	if len(t.Rooms) == 1 && len(t.Users) == 0 && len(t.Sockets) == 0 && len(r.ways) == 1 {
		return append(dst, spread(
			crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceRoom, Name: t.Rooms[0]}, r.ways[0],
		))
	}
	start := len(dst)
	once := func(d destination) {
		for _, have := range dst[start:] {
			if have == d {
				return
			}
		}
		dst = append(dst, d)
	}
	for _, w := range r.ways {
		for _, room := range t.Rooms {
			once(spread(crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceRoom, Name: room}, w))
		}
		for _, u := range t.Users {
			once(spread(crosscast.Address{Namespace: inst.Namespace, Space: crosscast.SpaceUser, Name: u}, w))
		}
	}
	for _, s := range t.Sockets {
		if n := s.Node(); n != self && n != "" {
			once(destination{node: n})
			if len(dst)-start > maxCopies {
				break
			}
		}
	}
	if len(dst)-start > maxCopies {
		return append(dst[:start], destination{})
	}
	return dst
}
