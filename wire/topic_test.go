package wire

import (
	"testing"

	"github.com/crosscast/crosscast"
)

// FuzzTopics: no two destinations, of whatever prefixes, have the same topic.
func FuzzTopics(f *testing.F) {
	f.Add("app", byte(0), "/", "all", "app:r:/", byte(2), "", "")
	f.Add("app", byte(1), "/", "n:abcdefgh", "app:u:/", byte(3), "", "abcdefgh")
	f.Add("app", byte(0), "r", "/:x", "app:r", byte(0), "/", "x")
	f.Add("app", byte(0), "a:b", "c", "app", byte(0), "a", "b:c")
	f.Add("app", byte(0), "/", "all", "app:prod", byte(2), "", "")
	f.Add("app", byte(3), "", "abcdefgh", "app:n", byte(4), "", "")
	f.Fuzz(func(t *testing.T, p1 string, kind1 byte, ns1, name1, p2 string, kind2 byte, ns2, name2 string) {
		if p1 == "" || p2 == "" || checkPrefix(p1) != nil || checkPrefix(p2) != nil {
			return
		}
		d1, ok1 := anyDestination(kind1, ns1, name1)
		d2, ok2 := anyDestination(kind2, ns2, name2)
		if !ok1 || !ok2 || p1 == p2 && d1 == d2 {
			return
		}
		if topic := d1.topic(p1); topic == d2.topic(p2) {
			t.Errorf("%q is the topic of %+v with the prefix %q, and of %+v with %q", topic, d1, p1, d2, p2)
		}
	})
}

func anyDestination(kind byte, ns, name string) (d destination, ok bool) {
	switch kind % 5 {
	case 0:
		d.name = crosscast.Address{Namespace: ns, Space: crosscast.SpaceRoom, Name: name}
	case 1:
		d.name = crosscast.Address{Namespace: ns, Space: crosscast.SpaceUser, Name: name}
	case 2:
		return d, true
	case 3:
		d.node = crosscast.NodeID(name)
		return d, len(name) == 8
	case 4:
		d.ingress = true
		return d, true
	}
	return d, ns != "" && name != ""
}
